//! One answer of the API: the document that was asked for, or a problem.

use futures::TryStreamExt;
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

use super::ApiError;

/// A list of thousands of instances has a few MiB.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;
const PROBLEM_BYTES_MAX: usize = 1 << 20;

pub async fn document<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
    let answer = head(request).await?;
    let what = what(&answer);
    let body = body(answer, DOCUMENT_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|source| ApiError::Unexpected { what, source })
}

/// The answer before its body, if it is one of success.
pub async fn head(request: RequestBuilder) -> Result<Response, ApiError> {
    let answer = request.send().await.map_err(ApiError::of)?;
    if answer.status().is_success() { Ok(answer) } else { Err(problem(answer).await) }
}

async fn problem(answer: Response) -> ApiError {
    let foreign = ApiError::Foreign { what: what(&answer), status: answer.status().as_u16() };
    let body = body(answer, PROBLEM_BYTES_MAX).await;
    let problem = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
    problem.map_or(foreign, |problem| ApiError::Problem(Box::new(problem)))
}

/// At most `limit` bytes; what is longer is no longer JSON, and reported so.
async fn body(answer: Response, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.try_next().await.map_err(ApiError::of)? {
        body.extend_from_slice(&piece[..piece.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    Ok(body)
}

fn what(answer: &Response) -> String {
    answer.url().path().to_owned()
}
