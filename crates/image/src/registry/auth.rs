//! Who one is at a registry: challenges, Basic, Bearer tokens with scopes (distribution's token specification).

use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::{answer, retry};
use crate::{Credentials, Error, Result};

/// Tokens without a lifetime are valid for a minute; a little is kept back for the way.
const LIFETIME_DEFAULT_S: u64 = 60;
const MARGIN: Duration = Duration::from_secs(5);
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// What `WWW-Authenticate` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The strongest of the header's challenges that is understood.
    pub(super) fn parse(headers: &reqwest::header::HeaderMap) -> Option<Challenge> {
        let values = headers
            .get_all(reqwest::header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.filter_map(parse_one).collect();
        let bearer = challenges
            .iter()
            .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

fn parse_one(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (key, value) in parameters(rest) {
        match key.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
        scope,
    })
}

/// `key=value` or `key="value"`, comma-separated; commas inside quotes belong to the value.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let Some((value, after)) = quoted.split_once('"') else {
                    break;
                };
                (value, after)
            }
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        found.push((
            key.trim_matches([' ', ',']).to_owned(),
            value.trim().to_owned(),
        ));
        text = after.trim_start_matches([',', ' ']);
    }
    found
}

/// A header that proves who one is, and until when.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub header: String,
    pub scopes: Vec<String>,
    until: Option<Instant>,
}

impl Proof {
    pub(super) fn is_good_for(&self, scopes: &[String]) -> bool {
        self.until
            .is_none_or(|until| Instant::now() + MARGIN < until)
            && scopes.iter().all(|scope| self.scopes.contains(scope))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Answers a challenge. `None`: the registry wants credentials, and there are none.
pub(super) async fn prove(
    client: &Client,
    challenge: &Challenge,
    scopes: &[String],
    credentials: Option<&Credentials>,
    plain_allowed: bool,
) -> Result<Option<Proof>> {
    let token = credentials
        .and_then(|c| c.registry_token.as_ref())
        .filter(|token| !token.is_empty());
    if let Some(token) = token {
        return Ok(Some(Proof {
            header: format!("Bearer {token}"),
            scopes: scopes.to_vec(),
            until: None,
        }));
    }
    match challenge {
        Challenge::Basic => Ok(credentials
            .filter(|c| !c.username.is_empty())
            .map(|credentials| Proof {
                header: basic(credentials),
                scopes: scopes.to_vec(),
                until: None,
            })),
        Challenge::Bearer {
            realm,
            service,
            scope,
        } => {
            let mut asked: Vec<String> = scopes.to_vec();
            let more = scope
                .iter()
                .flat_map(|scope| scope.split(' ').map(str::to_owned));
            for scope in more.filter(|scope| !scope.is_empty()) {
                if !asked.contains(&scope) {
                    asked.push(scope);
                }
            }
            let url = realm_url(realm, plain_allowed)?;
            fetch_token(client, url, service.as_deref(), asked, credentials)
                .await
                .map(Some)
        }
    }
}

fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// Credentials go to the realm, so a registry reached over TLS can't have them sent in the clear.
fn realm_url(realm: &str, plain_allowed: bool) -> Result<Url> {
    let url = Url::parse(realm)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| {
        Error::Invalid(format!(
            "the registry's token server {realm:?} is not a URL"
        ))
    })?;
    if url.scheme() == "http" && !plain_allowed {
        return Err(Error::Denied(format!(
            "the registry's token server {realm} is not reached over TLS; refused"
        )));
    }
    Ok(url)
}

async fn fetch_token(
    client: &Client,
    url: Url,
    service: Option<&str>,
    scopes: Vec<String>,
    credentials: Option<&Credentials>,
) -> Result<Proof> {
    let operation = format!("get a token from {url}");
    let mut attempt = 0;
    let response = loop {
        attempt += 1;
        match token_request(client, &url, service, &scopes, credentials)
            .send()
            .await
        {
            Ok(response)
                if retry::is_transient(response.status().as_u16())
                    && attempt < retry::ATTEMPTS_MAX =>
            {
                tokio::time::sleep(retry::delay_of(&response, attempt)).await;
            }
            Ok(response) => break response,
            Err(_) if attempt < retry::ATTEMPTS_MAX => {
                tokio::time::sleep(retry::delay(attempt)).await
            }
            Err(e) => {
                return Err(Error::Registry {
                    operation,
                    source: Box::new(e),
                });
            }
        }
    };
    if !response.status().is_success() {
        return Err(answer::error(&operation, response).await);
    }
    let body = answer::bounded(response, TOKEN_BYTES_MAX).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|e| Error::Registry {
        operation: operation.clone(),
        source: Box::new(e),
    })?;
    let token = answer
        .token
        .filter(|token| !token.is_empty())
        .or(answer.access_token);
    let token =
        token.ok_or_else(|| Error::Denied(format!("{operation}: the answer has no token")))?;
    let lifetime = Duration::from_secs(
        answer
            .expires_in
            .unwrap_or(LIFETIME_DEFAULT_S)
            .clamp(10, 24 * 3600),
    );
    Ok(Proof {
        header: format!("Bearer {token}"),
        scopes,
        until: Some(Instant::now() + lifetime),
    })
}

/// With an identity token by POST (OAuth 2), else by GET, with Basic where there is a user.
fn token_request(
    client: &Client,
    url: &Url,
    service: Option<&str>,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> reqwest::RequestBuilder {
    let service = service.unwrap_or_default();
    let identity = credentials
        .and_then(|c| c.identity_token.as_deref())
        .filter(|token| !token.is_empty());
    if let Some(identity) = identity {
        let scope = scopes.join(" ");
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "wharf"),
            ("service", service),
            ("scope", &scope),
            ("refresh_token", identity),
        ];
        return client.post(url.clone()).form(&form);
    }
    let mut query: Vec<(&str, &str)> = Vec::new();
    if !service.is_empty() {
        query.push(("service", service));
    }
    query.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    match credentials.filter(|credentials| !credentials.username.is_empty()) {
        Some(credentials) => {
            query.push(("account", &credentials.username));
            client
                .get(url.clone())
                .query(&query)
                .basic_auth(&credentials.username, Some(&credentials.password))
        }
        None => client.get(url.clone()).query(&query),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        let table = [
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth/token",service="reg",scope="repository:a/b:pull,push""#,
                Some(bearer(
                    "https://auth/token",
                    Some("reg"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (
                r#"bearer service=reg, realm="http://a""#,
                Some(bearer("http://a", Some("reg"), None)),
            ),
            ("Bearer service=x", None),
            (r#"Bearer realm="unclosed"#, None),
            ("Digest realm=x", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_one(text), expected, "{text}");
        }
        assert!(realm_url("http://a/t", false).is_err() && realm_url("http://a/t", true).is_ok());
        assert!(realm_url("file:///etc/passwd", true).is_err());
    }
}
