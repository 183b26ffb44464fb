//! The first word of a TLS client (RFC 8446, section 4.1.2): which host it wants, before anybody answers.
//!
//! Read here and not by a TLS library, for what is passed through must not be altered, and may be of a version that no library of ours
//! speaks any more. What is read is the unencrypted part alone; strangers choose every byte of it.

/// Larger ones are not seen in the wild: with a post-quantum key share they have about 2 KiB.
pub const BYTES_MAX: usize = 16 * 1024;

const RECORD_HEAD: usize = 5;
const RECORD_HANDSHAKE: u8 = 22;
/// Of a record's payload (RFC 8446, section 5.1).
const RECORD_MAX: usize = 1 << 14;
const MESSAGE_HEAD: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// In lower case; none if it names no host. Of an encrypted hello (RFC 9849) the outer one, which is for everybody to see; browsers
    /// send what looks like one with every hello, so that nothing follows from it.
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHello {
    #[error("it is not TLS")]
    NotTls,
    #[error("the hello is not well formed")]
    Malformed,
    #[error("the hello is longer than {BYTES_MAX} bytes")]
    TooLong,
}

/// None while more has to come.
pub fn parse(bytes: &[u8]) -> Result<Option<Hello>, BadHello> {
    let message = match message(bytes)? {
        Some(message) => message,
        None if bytes.len() >= BYTES_MAX => return Err(BadHello::TooLong),
        None => return Ok(None),
    };
    hello(&message).ok_or(BadHello::Malformed).map(Some)
}

/// The body of the handshake message, which may be spread over records.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, BadHello> {
    let (mut rest, mut message) = (bytes, Vec::new());
    loop {
        match rest {
            [kind, ..] if *kind != RECORD_HANDSHAKE => return Err(BadHello::NotTls),
            [_, major, ..] if *major != 3 => return Err(BadHello::NotTls),
            _ => {}
        }
        let Some((head, payload)) = rest.split_at_checked(RECORD_HEAD) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > RECORD_MAX {
            return Err(BadHello::Malformed);
        }
        let whole = payload.len().min(length);
        message.extend_from_slice(&payload[..whole]);
        rest = &payload[whole..];
        match message[..] {
            [kind, ..] if kind != CLIENT_HELLO => return Err(BadHello::NotTls),
            [_, high, middle, low, ..] => {
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                if length > BYTES_MAX {
                    return Err(BadHello::TooLong);
                }
                if let Some(body) = message.get(MESSAGE_HEAD..MESSAGE_HEAD + length) {
                    return Ok(Some(body.to_vec()));
                }
            }
            _ => {}
        }
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    let (_version, _random) = (body.take(2)?, body.take(32)?);
    let (_session, _suites, _compressions) = (body.short()?, body.long()?, body.short()?);
    let mut hello = Hello { name: None };
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.long()?);
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.number()?, extensions.long()?);
        if kind == SERVER_NAME {
            hello.name = Some(server_name(content)?);
        }
    }
    body.0.is_empty().then_some(hello)
}

/// RFC 6066, section 3: a list, of which every client sends one, a name of a host.
fn server_name(content: &[u8]) -> Option<String> {
    let mut list = Reader(Reader(content).long()?);
    let (kind, name) = (list.take(1)?[0], list.long()?);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_sound = kind == HOST_NAME && (1..=253).contains(&name.len()) && name.iter().all(plain);
    let name = is_sound.then(|| std::str::from_utf8(name).ok())??;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector of at most 255 bytes, after its length.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// One of at most 65,535.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
