//! The fields of one header.

use tar::{EntryType, Header};

use super::Kind;
use crate::erofs::FileType;

/// What the octal digits of a size field can say.
const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;

pub fn kind(header: &Header, path: &[u8]) -> Result<Kind, &'static str> {
    let special = |kind, major, minor| Kind::Special { kind, major, minor };
    Ok(match header.entry_type() {
        // Before there was a type for directories, a slash at the end said it.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Regular,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => special(FileType::Fifo, 0, 0),
        EntryType::Char => special(FileType::Char, device(header, 0)?, device(header, 1)?),
        EntryType::Block => special(FileType::Block, device(header, 0)?, device(header, 1)?),
        _ => return Err("entries of this type are not supported"),
    })
}

fn device(header: &Header, which: usize) -> Result<u32, &'static str> {
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => [&ustar.dev_major, &ustar.dev_minor],
        (_, Some(gnu)) => [&gnu.dev_major, &gnu.dev_minor],
        _ => return Err("a device has no number"),
    };
    number(fields[which]).and_then(|number| u32::try_from(number).ok()).ok_or("a device number is not a number")
}

/// The extended header says what the plain one can't; where the plain one can, both have to say the same.
pub fn archived_size(header: u64, pax: Option<u64>) -> Result<u64, &'static str> {
    match pax {
        None => Ok(header),
        Some(pax) if pax == header || pax > OCTAL_SIZE_MAX => Ok(pax),
        Some(_) => Err("two headers give two sizes"),
    }
}

/// Octal digits between blanks, or a binary number marked by its first byte. No digits are zero.
pub fn number(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80 => binary(&field[1..], 0),
        0xff => binary(&field[1..], -1),
        _ => {
            let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
            if text.is_empty() { Some(0) } else { octal(text) }
        }
    }
}

fn octal(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)).then(|| i64::from_str_radix(digits, 8).ok())?
}

fn binary(bytes: &[u8], start: i64) -> Option<i64> {
    bytes.iter().try_fold(start, |number, byte| number.checked_mul(256)?.checked_add(i64::from(*byte)))
}

pub fn checksum(bytes: &[u8; 512]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..])
}
