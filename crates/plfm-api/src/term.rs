//! `plfm.term.v1`: a terminal or a command over WebSocket, between the command line (or a browser) and the server (P-EXEC-20..23).
//!
//! Binary messages only; the first byte says what the rest is. Types and bytes only: carrying them is left to both ends.

use std::collections::BTreeMap;

use plfm_core::ids::InstanceId;
use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol.
pub const PROTOCOL: &str = "plfm.term.v1";
/// Of the payload after the type byte; longer input is sent in pieces.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
pub const VERSION: u32 = 1;

/// WebSocket close codes (P-EXEC-23).
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const FRAME_TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const PROTOCOL_ERROR: u16 = 4400;
    pub const UNAUTHORIZED: u16 = 4401;
    pub const FORBIDDEN: u16 = 4403;
    pub const UNKNOWN_SESSION: u16 = 4404;
    pub const HELLO_TIMEOUT: u16 = 4408;
    pub const NOT_RUNNING: u16 = 4409;
    pub const REVOKED: u16 = 4410;
    pub const VERSION: u16 = 4426;
    pub const LIMIT: u16 = 4429;
    pub const DURATION_OVER: u16 = 4440;
    pub const IDLE: u16 = 4441;
    pub const NODE_UNREACHABLE: u16 = 4502;
    pub const GUEST_UNAVAILABLE: u16 = 4503;
}

/// One WebSocket message. `seq` counts output bytes from 0 over both outputs: the number of the first byte of the frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    Stdin(Vec<u8>),
    /// Also what a terminal shows.
    Stdout {
        seq: u64,
        bytes: Vec<u8>,
    },
    Stderr {
        seq: u64,
        bytes: Vec<u8>,
    },
    Replay {
        seq: u64,
        bytes: Vec<u8>,
    },
    Control(Control),
    /// After all output.
    Exit(Exit),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// The client's first message.
    Hello(Hello),
    Welcome {
        v: u32,
        instance_id: InstanceId,
        process_type: String,
        tty: bool,
    },
    Resize {
        cols: u16,
        rows: u16,
    },
    Signal {
        name: Signal,
    },
    /// Ends the input of a command without a terminal.
    StdinEof,
    Ack {
        out_seq: u64,
    },
    Ping {
        t: u64,
    },
    Pong {
        t: u64,
    },
    Close {
        reason: String,
    },
    Closed {
        exit_code: Option<i32>,
    },
    Error {
        code: String,
        message: String,
        retryable: bool,
    },
    /// Of a later version; passed over.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub v: u32,
    pub cols: u16,
    pub rows: u16,
    pub command: Vec<String>,
    pub tty: bool,
    /// Whether input follows; without it the command reads an empty one.
    #[serde(default = "yes")]
    pub stdin: bool,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    Int,
    Term,
    Hup,
    Kill,
    Quit,
    Winch,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "exit")]
pub struct Exit {
    pub exit_code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame is empty")]
    Empty,
    #[error("a frame has {0} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooBig(usize),
    #[error("a frame of type {0:#04x} is not known")]
    UnknownType(u8),
    #[error("an output frame of {0} bytes has no sequence number")]
    NoSeq(usize),
    #[error("a control frame is not the JSON it should be: {0}")]
    Json(String),
}

const STDIN: u8 = 0x01;
const STDOUT: u8 = 0x02;
const STDERR: u8 = 0x03;
const REPLAY: u8 = 0x04;
const CONTROL: u8 = 0x10;
const EXIT: u8 = 0x11;

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Stdin(bytes) => [&[STDIN], bytes.as_slice()].concat(),
            Self::Stdout { seq, bytes } => output(STDOUT, *seq, bytes),
            Self::Stderr { seq, bytes } => output(STDERR, *seq, bytes),
            Self::Replay { seq, bytes } => output(REPLAY, *seq, bytes),
            Self::Control(control) => json(CONTROL, control),
            Self::Exit(exit) => json(EXIT, exit),
        }
    }

    pub fn decode(message: &[u8]) -> Result<Self, FrameError> {
        let (kind, payload) = message.split_first().ok_or(FrameError::Empty)?;
        if payload.len() > FRAME_BYTES_MAX + size_of::<u64>() {
            return Err(FrameError::TooBig(payload.len()));
        }
        match *kind {
            STDIN => Ok(Self::Stdin(payload.to_vec())),
            STDOUT => numbered(payload).map(|(seq, bytes)| Self::Stdout { seq, bytes }),
            STDERR => numbered(payload).map(|(seq, bytes)| Self::Stderr { seq, bytes }),
            REPLAY => numbered(payload).map(|(seq, bytes)| Self::Replay { seq, bytes }),
            CONTROL => parse(payload).map(Self::Control),
            EXIT => parse(payload).map(Self::Exit),
            other => Err(FrameError::UnknownType(other)),
        }
    }
}

fn output(kind: u8, seq: u64, bytes: &[u8]) -> Vec<u8> {
    [&[kind], seq.to_be_bytes().as_slice(), bytes].concat()
}

fn numbered(payload: &[u8]) -> Result<(u64, Vec<u8>), FrameError> {
    let (seq, bytes) = payload.split_first_chunk().ok_or(FrameError::NoSeq(payload.len()))?;
    Ok((u64::from_be_bytes(*seq), bytes.to_vec()))
}

fn json(kind: u8, value: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_vec(value).expect("strings and numbers have a JSON form");
    [&[kind], text.as_slice()].concat()
}

fn parse<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|error| FrameError::Json(error.to_string()))
}

#[cfg(test)]
mod tests;
