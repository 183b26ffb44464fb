//! QEMU's control socket (QMP): commands and answers, one JSON document each, and descriptors beside them.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use super::sockets;

/// QEMU answers within milliseconds; writing the devices' state takes tens of them.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// An answer is short, and so are the events between.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Blocks: to be used where that is allowed.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    pub fn connect(dir: &Path) -> io::Result<Self> {
        let stream = sockets::connect_blocking(dir, sockets::CONTROL)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.line()?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    pub fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let line = request(command, &arguments);
        self.reader.get_mut().write_all(line.as_bytes())?;
        self.answer(command)
    }

    /// With a descriptor, which QEMU keeps.
    pub fn hand(&mut self, command: &str, arguments: Value, fd: BorrowedFd<'_>) -> io::Result<Value> {
        let (line, fds) = (request(command, &arguments), [fd]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = sendmsg(self.reader.get_ref(), &[IoSlice::new(line.as_bytes())], &mut beside, SendFlags::empty())?;
        self.reader.get_mut().write_all(&line.as_bytes()[sent..])?;
        self.answer(command)
    }

    /// Events may come before it; nobody here waits for one.
    fn answer(&mut self, command: &str) -> io::Result<Value> {
        loop {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                return Err(io::Error::other(format!("{command}: {}", error["desc"].as_str().unwrap_or("refused"))));
            }
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        (&mut self.reader).take(LINE_BYTES_MAX).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn request(command: &str, arguments: &Value) -> String {
    format!("{}\n", json!({ "execute": command, "arguments": arguments }))
}
