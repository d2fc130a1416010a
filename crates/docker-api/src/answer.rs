//! Answers: JSON, nothing, streams, and errors in Docker's shape.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use wharf_engine::{Error, Kind};

/// A refused request.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

/// Result of handling a request.
pub type Outcome<T = Response<Body>> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            message: message.into(),
        }
    }

    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn missing(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    pub fn into_response(self) -> Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            return empty(self.status);
        }
        let mut response = json_answer(&json!({"message": self.message}));
        *response.status_mut() = self.status;
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let status = match error.kind {
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::InvalidParameter => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.message)
    }
}

impl From<wharf_image::Error> for Refusal {
    fn from(error: wharf_image::Error) -> Refusal {
        Refusal::from(Error::from(error))
    }
}

/// An error with its causes, for streams that can't have a status any more.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    line
}

/// A JSON body.
pub fn json_answer(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A JSON body with 201.
pub fn created(value: &Value) -> Response<Body> {
    let mut response = json_answer(value);
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// No body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A body that comes as it is made.
pub fn stream(
    content_type: &'static str,
    blocks: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::from_stream(blocks));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Lines of JSON, each sent at once.
pub fn json_lines(lines: impl Stream<Item = Value> + Send + 'static) -> Response<Body> {
    stream(
        "application/json",
        lines.map(|line| Ok(Bytes::from(format!("{line}\r\n")))),
    )
}
