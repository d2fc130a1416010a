//! Reading requests: query parameters, JSON bodies, credentials.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, Uri};
use base64::Engine as _;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_image::Credentials;

use crate::answer::{Outcome, Refusal};

/// No JSON of a client's is longer.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Parameters of a query, percent-decoded; a key may come several times.
#[derive(Debug, Default, Clone)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(uri: &Uri) -> Query {
        let text = uri.query().unwrap_or_default();
        Query(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// Docker's booleans: everything but these is true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| !matches!(v.to_lowercase().as_str(), "0" | "no" | "false" | "none"))
    }

    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.get(key).is_some() {
            self.flag(key)
        } else {
            default
        }
    }

    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Outcome<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Refusal::bad(format!("invalid value {text:?} for {key}"))),
        }
    }

    /// A JSON object of strings.
    pub fn map(&self, key: &str) -> Outcome<BTreeMap<String, Option<String>>> {
        match self.get(key) {
            None => Ok(BTreeMap::new()),
            Some(text) => {
                serde_json::from_str(text).map_err(|e| Refusal::bad(format!("{key}: {e}")))
            }
        }
    }
}

/// A JSON body; an empty one is `null`.
pub async fn json_body(body: Body) -> Outcome<Value> {
    let bytes = Limited::new(body, JSON_BYTES_MAX).collect().await;
    let bytes = bytes
        .map_err(|e| Refusal::bad(format!("read the request's body: {e}")))?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|e| Refusal::bad(format!("invalid JSON: {e}")))
}

/// A JSON value as a structure.
pub fn parse<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|e| Refusal::bad(format!("invalid JSON: {e}")))
}

/// What `X-Registry-Auth` carries.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let text = headers.get("x-registry-auth")?.to_str().ok()?;
    let bytes = base64::engine::general_purpose::URL_SAFE
        .decode(text)
        .or_else(|_| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text))
        .or_else(|_| base64::engine::general_purpose::STANDARD.decode(text))
        .ok()?;
    credentials_of(&serde_json::from_slice(&bytes).ok()?)
}

/// Docker's AuthConfig.
pub fn credentials_of(value: &Value) -> Option<Credentials> {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let token = |key: &str| {
        value[key]
            .as_str()
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let found = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: token("identitytoken"),
        registry_token: token("registrytoken"),
    };
    let any = !found.username.is_empty()
        || found.identity_token.is_some()
        || found.registry_token.is_some();
    any.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::of(&"/x?all=1&t=a%3Ab&t=c&f=false&n=".parse().unwrap());
        assert!(query.flag("all") && !query.flag("f") && !query.flag("missing"));
        assert_eq!(query.all("t"), ["a:b", "c"]);
        assert_eq!(query.get("n"), None);
    }
}
