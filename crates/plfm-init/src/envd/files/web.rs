//! `/files`: whole files, streamed both ways (W-DL, W-UL). What is uploaded goes to the disk as it comes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::service::resolved;
use super::{FileError, account, acts, there};
use crate::daemon::Daemon;
use crate::envd::web::Body;
use crate::users::Account;

/// Frames are coalesced to this much: many small ones cost clients more than they bring.
const PIECE: usize = 256 << 10;
/// Pieces between the disk and the wire.
const PIECES: usize = 2;
const PARTS_MAX: usize = 1_000;

pub async fn download(daemon: &Daemon, request: Request<Incoming>) -> Response<Body> {
    let sent = async {
        let query = query(request.uri().query().unwrap_or_default());
        let account = account(daemon, query.get("username").cloned()).await?;
        let path = resolved(query.get("path").map(String::as_str).unwrap_or_default(), &account)?;
        let name = name_of(&path);
        let (file, size) = there(daemon, move || acts::open(&path)).await?;
        let answer = Response::builder().header(CONTENT_TYPE, "application/octet-stream");
        let answer = answer.header(CONTENT_DISPOSITION, disposition(&name));
        let answer = match size {
            Some(size) => answer.header(CONTENT_LENGTH, size),
            None => answer,
        };
        Ok(answer.body(pieces(file, size)).expect("names and numbers are plain ASCII"))
    };
    sent.await.unwrap_or_else(refused)
}

/// The whole file, or as much as it was when it was opened.
fn pieces(file: File, size: Option<u64>) -> Body {
    let (told, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut left = size.unwrap_or(u64::MAX);
        while left > 0 {
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            let read = match (&file).read(&mut piece) {
                // It has shrunk since, and so much was promised.
                Ok(0) if size.is_some() => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    left -= read as u64;
                    Ok(Bytes::from(piece))
                }
                Err(cause) => Err(cause),
            };
            let ends = read.is_err();
            if told.blocking_send(read).is_err() || ends {
                return;
            }
        }
    });
    let pieces = futures::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Into::into))).boxed_unsync()
}

pub async fn upload(daemon: &Arc<Daemon>, request: Request<Incoming>) -> Response<Body> {
    let taken = async {
        let query = query(request.uri().query().unwrap_or_default());
        let account = account(daemon, query.get("username").cloned()).await?;
        let path = query.get("path").filter(|path| !path.is_empty()).cloned();
        let headers = request.headers().clone();
        if headers.keys().any(|name| name.as_str().starts_with("x-metadata-")) {
            return Err(FileError::Malformed("this daemon cannot keep metadata yet".to_owned()));
        }
        if !is_plain(&headers) {
            return Err(FileError::Malformed("only a body without an encoding is taken".to_owned()));
        }
        let body = BodyDataStream::new(request.into_body());
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let written = match multer::parse_boundary(kind) {
            Ok(boundary) => parts(daemon, &account, path, multer::Multipart::new(body, boundary)).await?,
            Err(_) => {
                let path = path.ok_or_else(|| FileError::Malformed("the request names no path".to_owned()))?;
                let path = resolved(&path, &account)?;
                write(daemon, &account, &path, body.map(|piece| piece.map_err(|cut| broken(&cut)))).await?;
                vec![path]
            }
        };
        Ok(json(StatusCode::OK, &written.iter().map(|path| entry_json(path)).collect()))
    };
    taken.await.unwrap_or_else(refused)
}

/// With `path` there is one part, whose name does not count; without, each part's whole file name is its path.
async fn parts(
    daemon: &Arc<Daemon>,
    account: &Account,
    path: Option<String>,
    mut parts: multer::Multipart<'_>,
) -> Result<Vec<String>, FileError> {
    let mut written = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|cut| broken(&cut))? {
        if part.name() != Some("file") {
            continue;
        }
        let named = path.clone().or_else(|| part.file_name().map(str::to_owned)).filter(|name| !name.is_empty());
        let named = named.ok_or_else(|| FileError::Malformed("a part names no file".to_owned()))?;
        let target = resolved(&named, account)?;
        if written.contains(&target) || written.len() >= PARTS_MAX {
            return Err(FileError::Malformed(format!("more than one part for {target}, or too many parts")));
        }
        write(daemon, account, &target, part.map(|piece| piece.map_err(|cut| broken(&cut)))).await?;
        written.push(target);
    }
    if written.is_empty() {
        return Err(FileError::Malformed("the request holds no file".to_owned()));
    }
    Ok(written)
}

/// What comes is on its way to the disk while the next is awaited.
async fn write(
    daemon: &Arc<Daemon>,
    account: &Account,
    path: &str,
    body: impl Stream<Item = Result<Bytes, FileError>>,
) -> Result<(), FileError> {
    let (at, owner) = (path.to_owned(), account.clone());
    let mut file = there(daemon, move || acts::create(&at, &owner)).await?;
    let (hand, mut pieces) = mpsc::channel::<Bytes>(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece)?;
        }
        io::Result::Ok(())
    });
    let mut body = std::pin::pin!(body);
    let mut cut = None;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => {
                // It takes no more when the disk does not.
                if hand.send(piece).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                cut = Some(error);
                break;
            }
        }
    }
    drop(hand);
    let written = writing.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    written.map_err(|cause| FileError::of(path, cause))?;
    cut.map_or(Ok(()), Err)
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

fn broken(cause: &dyn std::error::Error) -> FileError {
    FileError::Malformed(format!("the body cannot be read: {cause}"))
}

fn name_of(path: &str) -> String {
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// RFC 6266; what a header cannot carry is left out.
fn disposition(name: &str) -> String {
    let plain = |character: &char| character.is_ascii_graphic() && !matches!(character, '"' | '\\');
    format!("inline; filename=\"{}\"", name.chars().filter(|it| plain(it) || *it == ' ').collect::<String>())
}

fn refused(error: FileError) -> Response<Body> {
    let status = error.status();
    json(status, &json!({ "code": status.as_u16(), "message": error.to_string() }))
}

fn entry_json(path: &str) -> Value {
    json!({ "path": path, "name": name_of(path), "type": "file" })
}

fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    answer.header(http::header::CACHE_CONTROL, "no-store").body(body).expect("it has plain headers")
}

/// The pairs of a query (`application/x-www-form-urlencoded`).
fn query(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_once() {
        let read = query("path=%2Fa%20b+c%2525&username=ada&x&y=");
        assert_eq!((read["path"].as_str(), read["username"].as_str(), read["y"].as_str()), ("/a b c%25", "ada", ""));
    }

    #[test]
    fn a_name_cannot_end_its_header() {
        assert_eq!(disposition("a\"b\nc d"), "inline; filename=\"abc d\"");
    }
}
