//! What a single value must be. Each rule is a pure function from what is written to what is meant.

use std::fmt;
use std::ops::RangeInclusive;

use super::notation::{mebibytes, millis, size_text};
use super::{Code, image_reference};
use crate::units::{Mebibytes, MilliCpu};

/// Why a value is not accepted, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub hint: String,
}

pub(super) type Ruled<T> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Errors show what was written, up to this many characters; the file may hold lines of 64 KiB.
const SHOWN_CHARS_MAX: usize = 60;

pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text).escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn ensure<T>(holds: bool, value: T, refusal: impl FnOnce() -> Refusal) -> Ruled<T> {
    if holds { Ok(value) } else { Err(refusal()) }
}

pub(super) fn whole<T>(range: RangeInclusive<T>, code: Code) -> impl Fn(i64) -> Ruled<T>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    move |number| {
        T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            let message = format!("{number} is not within {low}..{high}");
            Refusal::new(code, message, format!("write a number from {low} to {high}"))
        })
    }
}

/// One of a few words, each with what it means.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)], code: Code) -> impl Fn(&str) -> Ruled<T> {
    move |text| {
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            Refusal::new(code, format!("{} is not supported here", quoted(text)), format!("write one of {list}"))
        })
    }
}

/// A text of a number of characters.
pub(super) fn length(range: RangeInclusive<usize>, code: Code) -> impl Fn(&str) -> Ruled<String> {
    move |text| {
        let count = text.chars().count();
        ensure(range.contains(&count), text.to_owned(), || {
            let hint = format!("write {} to {} characters", range.start(), range.end());
            Refusal::new(code, format!("the text has {count} characters"), hint)
        })
    }
}

pub(super) fn any(text: &str) -> Ruled<String> {
    Ok(text.to_owned())
}

/// The names of processes, ports and volumes: `[a-z][a-z0-9-]{0,31}`.
pub(super) fn name(code: Code) -> impl Fn(&str) -> Ruled<String> {
    move |text| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let holds =
            text.starts_with(|first: char| first.is_ascii_lowercase()) && text.len() <= 32 && text.bytes().all(inner);
        ensure(holds, text.to_owned(), || {
            let hint = "write a lower-case letter, then at most 31 lower-case letters, digits or `-`";
            Refusal::new(code, format!("{} is not a name", quoted(text)), hint)
        })
    }
}

pub(super) fn image(text: &str) -> Ruled<String> {
    image_reference(text).map(|_| text.to_owned())
}

const VAR_KEY_BYTES_MAX: usize = 128;
/// The sum over all variables has no limit of its own: the spec's 128 KiB exceed what the file itself may hold.
const VAR_VALUE_BYTES_MAX: usize = 32 * 1024;

pub(super) fn var_key(key: &str) -> Ruled<String> {
    let inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let holds = key.bytes().all(inner) && !key.is_empty() && !key.starts_with(|first: char| first.is_ascii_digit());
    if !holds || key.len() > VAR_KEY_BYTES_MAX {
        let hint = format!("write upper-case letters, digits and `_`, at most {VAR_KEY_BYTES_MAX}, no digit first");
        return Err(Refusal::new(Code::VarKey, format!("{} is not a name of a variable", quoted(key)), hint));
    }
    ensure(!key.starts_with("PLFM_"), key.to_owned(), || {
        let hint = "choose another name: variables that start with `PLFM_` are set by the platform";
        Refusal::new(Code::VarReserved, format!("{} is reserved", quoted(key)), hint)
    })
}

/// The message leaves the value out: a variable may be a secret.
pub(super) fn var_value(value: &str) -> Ruled<String> {
    ensure(value.len() <= VAR_VALUE_BYTES_MAX, value.to_owned(), || {
        let message = format!("the value has {} bytes, the limit is {VAR_VALUE_BYTES_MAX}", value.len());
        Refusal::new(Code::VarSize, message, "put large values into the image or a secret")
    })
}

pub(super) fn absolute_path(text: &str) -> Ruled<String> {
    ensure(text.starts_with('/'), text.to_owned(), || {
        Refusal::new(
            Code::Path,
            format!("{} is not an absolute path", quoted(text)),
            "write a path that starts with `/`",
        )
    })
}

/// A name, a uid, or `uid:gid`.
pub(super) fn user(text: &str) -> Ruled<String> {
    let holds =
        is_id(text) || is_user_name(text) || text.split_once(':').is_some_and(|(uid, gid)| is_id(uid) && is_id(gid));
    ensure(holds, text.to_owned(), || {
        let hint = "write a name, a uid, or `uid:gid`, for example `1000:1000`";
        Refusal::new(Code::User, format!("{} is not a user", quoted(text)), hint)
    })
}

/// 4294967295 means "unchanged" to the kernel.
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|id: u32| id < u32::MAX)
}

fn is_user_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.len() <= 32
        && text.bytes().all(inner)
}

const MEMORY: RangeInclusive<Mebibytes> = Mebibytes(64)..=Mebibytes(256 << 10);
const DISK: RangeInclusive<Mebibytes> = Mebibytes(1 << 10)..=Mebibytes(100 << 10);
/// The upper end, 1 PiB, keeps sums over thousands of volumes in bytes within 64 bits.
const VOLUME: RangeInclusive<Mebibytes> = Mebibytes(1 << 10)..=Mebibytes(1 << 30);

pub(super) fn memory(text: &str) -> Ruled<Mebibytes> {
    let size = mebibytes(text).ok_or_else(|| {
        let hint = "write `<n>Mi` or `<n>Gi`, for example `512Mi`";
        Refusal::new(Code::MemoryFormat, format!("{} is not a memory size", quoted(text)), hint)
    })?;
    within(size, text, MEMORY, Code::MemoryRange)
}

pub(super) fn disk(text: &str) -> Ruled<Mebibytes> {
    gibibytes(text, Code::DiskRange).and_then(|size| within(size, text, DISK, Code::DiskRange))
}

pub(super) fn volume_size(text: &str) -> Ruled<Mebibytes> {
    gibibytes(text, Code::VolumeSize).and_then(|size| within(size, text, VOLUME, Code::VolumeSize))
}

fn gibibytes(text: &str, code: Code) -> Ruled<Mebibytes> {
    mebibytes(text).filter(|_| text.ends_with("Gi")).ok_or_else(|| {
        Refusal::new(code, format!("{} is not a disk size", quoted(text)), "write `<n>Gi`, for example `4Gi`")
    })
}

fn within(size: Mebibytes, text: &str, range: RangeInclusive<Mebibytes>, code: Code) -> Ruled<Mebibytes> {
    let (low, high) = (size_text(*range.start()), size_text(*range.end()));
    ensure(range.contains(&size), size, || {
        Refusal::new(
            code,
            format!("{} is not within {low}..{high}", quoted(text)),
            format!("write a size from {low} to {high}"),
        )
    })
}

const CORES_MAX: f64 = 32.0;

pub(super) fn cpu(cores: f64) -> Ruled<MilliCpu> {
    ensure(cores > 0.0 && cores <= CORES_MAX, cores, || {
        let hint = format!("write a number above 0 and up to {CORES_MAX}, for example `0.5`");
        Refusal::new(Code::CpuRange, format!("{cores} is not a number of processors"), hint)
    })
    .map(millis)
}

/// The path of an HTTP request: nothing in it may end the request line.
pub(super) fn health_path(text: &str) -> Ruled<String> {
    ensure(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()), text.to_owned(), || {
        let hint = "write a path that starts with `/`, without spaces, for example `/healthz`";
        Refusal::new(Code::HealthPath, format!("{} is not a request path", quoted(text)), hint)
    })
}

const RESERVED: &[&str] = &["/proc", "/sys", "/dev", "/run", "/tmp"];

/// P-MAN-7; the attachment API and the guest hold to the same rule.
pub fn mount_path(text: &str) -> Ruled<String> {
    let normal = |part: &str| !matches!(part, "" | "." | "..");
    if !text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(normal)) || text.contains('\0') {
        let hint = "write an absolute path below `/` without `.`, `..`, `//` or a slash at its end";
        return Err(Refusal::new(Code::MountPath, format!("{} is not a mount path", quoted(text)), hint));
    }
    let reserved = RESERVED.iter().find(|reserved| *reserved == &text || is_below(text, reserved));
    reserved.map_or(Ok(text.to_owned()), |reserved| {
        let message = format!("{} is in `{reserved}`, which the guest needs itself", quoted(text));
        Err(Refusal::new(Code::MountReserved, message, "mount the volume elsewhere, for example at `/data`"))
    })
}

/// Whether one of two mount paths lies inside the other.
pub fn mounts_overlap(one: &str, other: &str) -> bool {
    is_below(one, other) || is_below(other, one)
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}
