//! PAX extended headers: `LENGTH KEY=VALUE\n`, again and again.
//!
//! Records are found by their lengths, never by their line ends: a value may hold any byte. A reader that stumbles
//! over one and goes on without the rest would believe another size than everyone else.

use std::collections::BTreeMap;

use crate::erofs::Time;

/// What the records of one header say about the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: Sparse,
}

/// The records of the three PAX forms of a sparse file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    pub major: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Numbers of the map in their order: offset, length, offset, length.
    pub map: Option<Vec<u64>>,
}

const BAD: &str = "a record of the extended header is not `LENGTH KEY=VALUE`";
const NUMBER: &str = "a number in the extended header is none";

impl Pax {
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        for record in Records(bytes) {
            let (key, value) = record?;
            pax.take(key, value)?;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            key if key.starts_with(b"GNU.sparse.") => self.sparse.take(&key[b"GNU.sparse.".len()..], value)?,
            key if key.starts_with(b"SCHILY.xattr.") => {
                self.xattrs.insert(key[b"SCHILY.xattr.".len()..].to_vec(), value.to_vec());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = Some(number(value)?),
            b"minor" if number(value)? != 0 && self.major == Some(1) => return Err("the sparse format is not known"),
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.real_size = Some(number(value)?),
            b"map" => self.map = Some(value.split(|byte| *byte == b',').map(number).collect::<Result<_, _>>()?),
            b"offset" | b"numbytes" => self.map.get_or_insert_default().push(number(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// A header for all entries may only say what says nothing about them.
pub fn check_global(bytes: &[u8]) -> Result<(), &'static str> {
    for record in Records(bytes) {
        let (key, _) = record?;
        if key != b"comment" {
            return Err("an extended header for all entries is not supported");
        }
    }
    Ok(())
}

struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or(BAD))
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    /// Digits of a length that fits in the largest header we read.
    const DIGITS_MAX: usize = 8;
    let space = bytes.iter().take(DIGITS_MAX + 1).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let (key, value) = {
        let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = text.iter().position(|byte| *byte == b'=')?;
        (&text[..equals], &text[equals + 1..])
    };
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// An empty value takes back what the plain header says nothing about.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("a name in the extended header has a NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub fn number(digits: &[u8]) -> Result<u64, &'static str> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(NUMBER);
    }
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(NUMBER)
}

/// `-1.5` is half a second before `-1`: the seconds go down, the fraction counts forward.
fn time(value: &[u8]) -> Result<Time, &'static str> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(number(parts.next().unwrap_or_default())?).map_err(|_| NUMBER)?;
    let nanos = fraction(parts.next().unwrap_or_default())?;
    Ok(match (negative, nanos) {
        (false, nanos) => Time { seconds: whole, nanos },
        (true, 0) => Time { seconds: -whole, nanos: 0 },
        (true, nanos) => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Digits beyond the ninth are cut off.
fn fraction(digits: &[u8]) -> Result<u32, &'static str> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(NUMBER);
    }
    let nine = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    Ok(nine.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_forward() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("1700000000.1234567899", 1_700_000_000, 123_456_789),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(Time { seconds, nanos }), "{text}");
        }
        for text in ["", "-", "1.x", "+1", "1e3", "99999999999999999999"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_end_within_a_value_is_not_the_end() {
        let pax = Pax::parse(b"29 SCHILY.xattr.user.a=x\n9 \n\n10 size=7\n").unwrap();
        assert_eq!(pax.xattrs[b"user.a".as_slice()], b"x\n9 \n");
        assert_eq!(pax.size, Some(7));
    }

    #[test]
    fn records_are_whole_or_refused() {
        let whole = b"13 path=a/bc\n10 size=7\n";
        for cut in 1..whole.len() {
            assert_eq!(Pax::parse(&whole[..cut]).is_ok(), cut == 13, "{cut}");
        }
        for bad in [
            "11 size=7\n",
            "8 size=7\n",
            "0 a=b\n",
            "5 a=b\nx",
            "4 =b\n",
            "5 ab\n\n",
            "12 path=a\0b\n",
            "x a=b\n",
            "10 size=-\n",
        ] {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
