//! A registry's error answers, in the words that Docker's clients show.

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::{Error, Result};

/// Enough for any error body; the rest is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Makes an error of an answer that is not a success.
pub(super) async fn error(operation: &str, response: Response) -> Error {
    let status = response.status();
    let body = bounded(response, BODY_BYTES_MAX).await.unwrap_or_default();
    let item = serde_json::from_slice::<Body>(&body)
        .ok()
        .and_then(|body| body.errors.into_iter().next());
    let item = item.unwrap_or_else(|| Item {
        code: default_code(status).to_owned(),
        message: String::new(),
    });
    let words = item.code.to_lowercase().replace('_', " ");
    let message = if item.message.is_empty() {
        default_message(status).to_owned()
    } else {
        item.message
    };
    let answer = if words.is_empty() {
        message
    } else {
        format!("{words}: {message}")
    };
    Error::Answer {
        operation: operation.to_owned(),
        answer,
        status: status.as_u16(),
        code: item.code,
    }
}

fn default_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "",
    }
}

fn default_message(status: StatusCode) -> String {
    match status.as_u16() {
        401 => "authentication required".to_owned(),
        403 => "requested access to the resource is denied".to_owned(),
        _ => format!("received unexpected HTTP status: {status}"),
    }
}

/// Reads a body of at most so many bytes.
pub(super) async fn bounded(mut response: Response, limit_bytes: usize) -> Result<Vec<u8>> {
    let url = response.url().to_string();
    let too_large = || {
        Error::Invalid(format!(
            "the answer of {url} is larger than the {limit_bytes} bytes accepted"
        ))
    };
    if response
        .content_length()
        .is_some_and(|len| len > limit_bytes as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|e| Error::Registry {
            operation: format!("read {url}"),
            source: Box::new(e),
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > limit_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}
