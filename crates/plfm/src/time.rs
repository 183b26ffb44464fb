//! The clock, and spans of time in words.

use std::time::{Duration, SystemTime};

use plfm_core::units::Timestamp;

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default() + since
}

/// In the largest unit that says enough: `0.4s`, `12s`, `7m`, `3h`, `5d`.
pub fn short(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1}s", span.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// As flags take it: `90`, `90s`, `10m`, `1h`, `7d`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(format!("`{unit}` is not one of s, m, h, d")),
    };
    let number: u32 = number.parse().map_err(|_| "write a number and s, m, h or d, for example 10m".to_owned())?;
    Ok(Duration::from_secs(u64::from(number) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let spans =
            [(400, "0.4s"), (9_999, "10.0s"), (12_000, "12s"), (450_000, "7m"), (9_000_000, "2h"), (432_000_000, "5d")];
        for (ms, text) in spans {
            assert_eq!(short(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn spans_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "m", "1w", "1.5h", "99999999999s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
