//! Small things around requests and answers.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header};

use crate::error::{Outcome, Refusal};

/// Parameters of a query string, percent-decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the `?`.
    pub fn of(uri: &Uri) -> Query {
        let text = uri.query().unwrap_or_default();
        Query(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// First value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }
}

/// A header value of text that may hold anything.
pub fn header_value(text: &str) -> Outcome<HeaderValue> {
    HeaderValue::from_str(text).map_err(|e| Refusal::internal(&e))
}

/// An answer without a body.
pub fn empty(status: StatusCode, headers: &[(HeaderName, String)]) -> Outcome {
    with_body(status, headers, Body::empty())
}

/// A JSON answer.
pub fn json(headers: &[(HeaderName, String)], value: &serde_json::Value) -> Outcome {
    let mut response = with_body(StatusCode::OK, headers, Body::from(value.to_string()))?;
    response
        .headers_mut()
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    Ok(response)
}

/// An answer with a body.
pub fn with_body(status: StatusCode, headers: &[(HeaderName, String)], body: Body) -> Outcome {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name, header_value(value)?);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::of(&"/v2/?digest=sha256%3Aab&n=1&x=a+b%2".parse().unwrap());
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("x"), Some("a b%2"));
        assert_eq!(query.get("y"), None);
    }
}
