//! How a manifest writes quantities: memory and disk as `512Mi` or `4Gi`, processors as `0.25`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::{Mebibytes, MilliCpu};

const MEBIBYTES_PER_GIBIBYTE: u64 = 1024;

/// None when the text is no size; what exceeds a `u64` becomes its maximum, which every rule refuses.
pub fn mebibytes(text: &str) -> Option<Mebibytes> {
    let (digits, unit) = match text.strip_suffix("Gi") {
        Some(digits) => (digits, MEBIBYTES_PER_GIBIBYTE),
        None => (text.strip_suffix("Mi")?, 1),
    };
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| Mebibytes(digits.parse().unwrap_or(u64::MAX).saturating_mul(unit)))
}

pub(super) fn size_text(size: Mebibytes) -> String {
    match size.0 % MEBIBYTES_PER_GIBIBYTE {
        0 => format!("{}Gi", size.0 / MEBIBYTES_PER_GIBIBYTE),
        _ => format!("{}Mi", size.0),
    }
}

pub(super) mod size {
    use super::*;

    pub fn serialize<S: Serializer>(size: &Mebibytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&size_text(*size))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mebibytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        mebibytes(&text).ok_or_else(|| de::Error::custom("a size is `<n>Mi` or `<n>Gi`"))
    }
}

pub(super) mod cores {
    use super::*;

    pub fn serialize<S: Serializer>(cpu: &MilliCpu, serializer: S) -> Result<S::Ok, S::Error> {
        (f64::from(cpu.0) / 1000.0).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MilliCpu, D::Error> {
        f64::deserialize(deserializer).map(millis)
    }
}

/// To the nearest thousandth, but never to nothing.
pub fn millis(cores: f64) -> MilliCpu {
    MilliCpu(((cores * 1000.0).round() as u32).max(1))
}
