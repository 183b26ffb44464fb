//! A stream of JSON lines (NDJSON).

use std::io;

use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use super::ApiError;

/// A plan of some thousand instances is one line.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Said about the stream itself (P-API-50..52); passed over.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Note {
    Keepalive,
    Dropped,
    End,
}

pub fn lines<T: DeserializeOwned + Send + 'static>(
    answer: Response,
) -> impl Stream<Item = Result<T, ApiError>> + Send + use<T> {
    let what = answer.url().path().to_owned();
    let bytes = Box::pin(answer.bytes_stream().map_err(io::Error::other));
    let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    lines.filter_map(move |line| {
        let item = line.map_err(cut).and_then(|line| parse(&line, &what)).transpose();
        std::future::ready(item)
    })
}

fn parse<T: DeserializeOwned>(line: &str, what: &str) -> Result<Option<T>, ApiError> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    match serde_json::from_str(line) {
        Ok(item) => Ok(Some(item)),
        Err(_) if serde_json::from_str::<Note>(line).is_ok() => Ok(None),
        Err(source) => Err(ApiError::Unexpected { what: what.to_owned(), source }),
    }
}

fn cut(error: LinesCodecError) -> ApiError {
    let source = match error {
        LinesCodecError::Io(source) => source,
        LinesCodecError::MaxLineLengthExceeded => io::Error::other("a line is too long"),
    };
    ApiError::StreamCut { source }
}
