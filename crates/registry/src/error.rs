//! Errors in the shape of the distribution specification ("Error Codes").

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::json;

/// A refused request: status, code and a sentence for a person.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// Code of the specification.
    pub code: &'static str,
    /// What is wrong, with which object, and what to do.
    pub message: String,
    /// Further headers (a challenge, a range).
    pub headers: Vec<(header::HeaderName, String)>,
}

/// Result of handling a request.
pub type Outcome<T = Response<Body>> = Result<T, Refusal>;

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub fn name_invalid(name: &str) -> Refusal {
        Self::new(
            StatusCode::BAD_REQUEST,
            "NAME_INVALID",
            format!("invalid repository name {name:?}"),
        )
    }

    pub fn name_unknown(name: &str) -> Refusal {
        Self::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            format!("repository {name} is not known to the registry"),
        )
    }

    pub fn digest_invalid(message: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub fn tag_invalid(tag: &str) -> Refusal {
        Self::new(
            StatusCode::BAD_REQUEST,
            "TAG_INVALID",
            format!("invalid tag {tag:?}"),
        )
    }

    pub fn blob_unknown(digest: &str) -> Refusal {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("blob unknown to registry: {digest}"),
        )
    }

    pub fn upload_unknown(id: &str) -> Refusal {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            format!("blob upload unknown to registry: {id}"),
        )
    }

    pub fn upload_invalid(message: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub fn range_invalid(message: impl Into<String>) -> Refusal {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "BLOB_UPLOAD_INVALID",
            message,
        )
    }

    pub fn manifest_unknown(reference: &str) -> Refusal {
        Self::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            format!("manifest unknown: {reference}"),
        )
    }

    pub fn manifest_invalid(message: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub fn manifest_too_large(limit_bytes: u64) -> Refusal {
        let message = format!("manifest is larger than {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub fn manifest_blob_unknown(digest: &str) -> Refusal {
        let message = format!(
            "the manifest refers to {digest}, which this repository does not have: push it first"
        );
        // Not found in the table of the specification, bad request in every registry of the field.
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub fn page_invalid(message: impl Into<String>) -> Refusal {
        Self::new(
            StatusCode::BAD_REQUEST,
            "PAGINATION_NUMBER_INVALID",
            message,
        )
    }

    pub fn unsupported() -> Refusal {
        let message = "the operation is unsupported";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub fn not_found() -> Refusal {
        Self::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "no such page; the API is below /v2/",
        )
    }

    pub fn unauthorized(message: &str) -> Refusal {
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        refusal.headers.push((
            header::WWW_AUTHENTICATE,
            "Basic realm=\"Wharf registry\"".to_owned(),
        ));
        refusal
    }

    /// A failure of ours: logged in full here, told in short to the client.
    pub fn internal(error: &dyn std::error::Error) -> Refusal {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        tracing::error!(error = text, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", text)
    }

    /// The answer on the wire.
    pub fn into_response(self) -> Response<Body> {
        let body =
            json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        for (name, value) in self.headers {
            if let Ok(value) = header::HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        Refusal::internal(&error)
    }
}

impl From<wharf_blob::Error> for Refusal {
    fn from(error: wharf_blob::Error) -> Refusal {
        use wharf_blob::Error as E;
        match &error {
            E::InvalidDigest(_) | E::Mismatch { .. } => Refusal::digest_invalid(error.to_string()),
            E::NotFound(digest) => Refusal::blob_unknown(digest.as_str()),
            E::Busy(key) => {
                Refusal::upload_invalid(format!("upload {key} is being written by another request"))
            }
            E::Size { .. } => Refusal::upload_invalid(error.to_string()),
            _ => Refusal::internal(&error),
        }
    }
}
