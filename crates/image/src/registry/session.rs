//! A session with one repository at one endpoint: requests with proof of identity and retries.

use std::sync::Arc;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LINK, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;

use super::auth::{self, Challenge, Proof};
use super::endpoint::Endpoint;
use super::{answer, link, retry};
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::{Credentials, Error, Result};

const TAGS_BYTES_MAX: usize = 16 << 20;
const TAG_PAGES_MAX: usize = 10_000;

/// One repository at one registry. Cheap to clone; clones share tokens.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    endpoint: Endpoint,
    repository: String,
    credentials: Option<Credentials>,
    challenge: Mutex<Option<Challenge>>,
    proofs: Mutex<Vec<Proof>>,
}

/// A manifest or index as it came.
#[derive(Debug)]
pub(crate) struct FetchedManifest {
    pub bytes: Vec<u8>,
    pub digest: wharf_blob::Digest,
    pub content_type: String,
}

impl Session {
    /// Says hello (`GET /v2/`): finds out whether somebody is there, and what proof is wanted.
    pub(super) async fn open(
        client: Client,
        endpoint: Endpoint,
        repository: &str,
        credentials: Option<Credentials>,
    ) -> Result<Session> {
        let url = format!("{}/v2/", endpoint.base);
        let response = client.get(&url).send().await;
        let response = response.map_err(|e| Error::Registry {
            operation: format!("Get {url:?}"),
            source: Box::new(e),
        })?;
        let challenge = if response.status() == StatusCode::UNAUTHORIZED {
            Challenge::parse(response.headers())
        } else {
            None
        };
        let inner = Inner {
            client,
            endpoint,
            repository: repository.to_owned(),
            credentials,
            challenge: Mutex::new(challenge),
            proofs: Mutex::default(),
        };
        Ok(Session {
            inner: Arc::new(inner),
        })
    }

    /// Whether this is a mirror, which may lack what the original has.
    pub(crate) fn is_mirror(&self) -> bool {
        self.inner.endpoint.mirror
    }

    /// Address of something in the repository.
    pub(super) fn url(&self, path: &str) -> String {
        format!(
            "{}/v2/{}/{path}",
            self.inner.endpoint.base, self.inner.repository
        )
    }

    /// Resolves a `Location`, which may be relative.
    pub(super) fn locate(&self, base: &Url, location: &str) -> Result<Url> {
        base.join(location).map_err(|e| Error::Registry {
            operation: format!("follow the registry's location {location:?}"),
            source: Box::new(e),
        })
    }

    pub(super) fn pull_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:pull", self.inner.repository)]
    }

    pub(super) fn push_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:pull,push", self.inner.repository)]
    }

    /// One request: with proof where it is wanted, repeated where the registry is busy or the way to it breaks.
    /// `build` is asked again for each attempt. Answers of any status but 401, 429 and 5xx are the caller's to judge.
    pub(super) async fn request(
        &self,
        operation: &str,
        scopes: &[String],
        build: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut attempt = 0;
        let mut refreshed = false;
        loop {
            attempt += 1;
            let mut request = build(&self.inner.client);
            if let Some(header) = self.proof(scopes, operation).await? {
                request = request.header(AUTHORIZATION, header);
            }
            match request.send().await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !refreshed => {
                    refreshed = true;
                    self.challenged(operation, response).await?;
                }
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                    return Err(answer::error(operation, response).await);
                }
                Ok(response) if retry::is_transient(response.status().as_u16()) => {
                    if attempt >= retry::ATTEMPTS_MAX {
                        return Err(answer::error(operation, response).await);
                    }
                    tokio::time::sleep(retry::delay_of(&response, attempt)).await;
                }
                Ok(response) => return Ok(response),
                Err(e) if attempt >= retry::ATTEMPTS_MAX || !may_pass(&e) => {
                    return Err(Error::Registry {
                        operation: operation.to_owned(),
                        source: Box::new(e),
                    });
                }
                Err(_) => tokio::time::sleep(retry::delay(attempt)).await,
            }
        }
    }

    /// A 401 in the middle: the token ran out, or this request wants more than the last.
    async fn challenged(&self, operation: &str, response: Response) -> Result<()> {
        let Some(challenge) = Challenge::parse(response.headers()) else {
            return Err(answer::error(operation, response).await);
        };
        if challenge == Challenge::Basic && self.inner.credentials.is_none() {
            return Err(answer::error(operation, response).await);
        }
        *self.inner.challenge.lock().await = Some(challenge);
        self.inner.proofs.lock().await.clear();
        Ok(())
    }

    /// The header to send. The lock is held while a token is fetched, so that parallel layers ask for one together.
    async fn proof(&self, scopes: &[String], operation: &str) -> Result<Option<String>> {
        let Some(challenge) = self.inner.challenge.lock().await.clone() else {
            return Ok(None);
        };
        let mut proofs = self.inner.proofs.lock().await;
        if let Some(proof) = proofs.iter().find(|proof| proof.is_good_for(scopes)) {
            return Ok(Some(proof.header.clone()));
        }
        let plain_allowed =
            self.inner.endpoint.insecure || self.inner.endpoint.base.starts_with("http:");
        let credentials = self.inner.credentials.as_ref();
        let proof = auth::prove(
            &self.inner.client,
            &challenge,
            scopes,
            credentials,
            plain_allowed,
        )
        .await?;
        let Some(proof) = proof else {
            return Err(Error::Answer {
                operation: operation.to_owned(),
                answer: "no basic auth credentials".to_owned(),
                status: 401,
                code: "UNAUTHORIZED".to_owned(),
            });
        };
        let header = proof.header.clone();
        proofs.retain(|old| old.is_good_for(&[]));
        proofs.push(proof);
        Ok(Some(header))
    }

    /// Checks the credentials: a second hello, with proof.
    pub(crate) async fn check_login(&self) -> Result<()> {
        let url = format!("{}/v2/", self.inner.endpoint.base);
        let operation = format!("Get {url:?}");
        let response = self
            .request(&operation, &[], |client| client.get(&url))
            .await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(answer::error(&operation, response).await)
        }
    }

    /// Fetches a manifest or index by tag or digest; by digest it is verified.
    pub(crate) async fn manifest(&self, selector: &str) -> Result<FetchedManifest> {
        let url = self.url(&format!("manifests/{selector}"));
        let operation = format!("Get {url:?}");
        let accept = crate::manifest::ACCEPT.join(", ");
        let scopes = self.pull_scope();
        let response = self
            .request(&operation, &scopes, |client| {
                client.get(&url).header(ACCEPT, &accept)
            })
            .await?;
        if !response.status().is_success() {
            return Err(answer::error(&operation, response).await);
        }
        let content_type = header(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let announced = header(response.headers(), "docker-content-digest");
        let bytes = answer::bounded(response, MANIFEST_BYTES_MAX as usize).await?;
        let wanted = wharf_blob::Digest::parse(selector).ok();
        let wanted = wanted.or(announced.and_then(|text| wharf_blob::Digest::parse(&text).ok()));
        let algorithm = wanted
            .as_ref()
            .map_or(wharf_blob::Algorithm::Sha256, |digest| digest.algorithm());
        let mut hasher = wharf_blob::Hasher::new(algorithm);
        hasher.update(&bytes);
        let digest = hasher.finish();
        if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
            return Err(wharf_blob::Error::Mismatch {
                expected,
                actual: digest,
            }
            .into());
        }
        Ok(FetchedManifest {
            bytes,
            digest,
            content_type,
        })
    }

    /// Asks for a blob from a byte on.
    pub(crate) async fn blob(&self, digest: &str, offset_bytes: u64) -> Result<Response> {
        let url = self.url(&format!("blobs/{digest}"));
        let operation = format!("Get {url:?}");
        let build = |client: &Client| match offset_bytes {
            0 => client.get(&url),
            offset => client.get(&url).header(RANGE, format!("bytes={offset}-")),
        };
        let response = self.request(&operation, &self.pull_scope(), build).await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(answer::error(&operation, response).await)
        }
    }

    /// Fetches a small blob whole and verifies it.
    pub(crate) async fn small_blob(
        &self,
        digest: &wharf_blob::Digest,
        limit_bytes: u64,
    ) -> Result<Vec<u8>> {
        let response = self.blob(digest.as_str(), 0).await?;
        let bytes = answer::bounded(response, limit_bytes as usize).await?;
        let mut hasher = wharf_blob::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(wharf_blob::Error::Mismatch {
                expected: digest.clone(),
                actual,
            }
            .into());
        }
        Ok(bytes)
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &str) -> Result<bool> {
        let url = self.url(&format!("blobs/{digest}"));
        let operation = format!("Head {url:?}");
        let response = self
            .request(&operation, &self.push_scope(), |client| client.head(&url))
            .await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer::error(&operation, response).await),
        }
    }

    /// Puts a manifest; returns the digest the registry knows it by.
    pub(crate) async fn put_manifest(
        &self,
        selector: &str,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<()> {
        let url = self.url(&format!("manifests/{selector}"));
        let operation = format!("Put {url:?}");
        let body = bytes::Bytes::copy_from_slice(bytes);
        let build = |client: &Client| {
            client
                .put(&url)
                .header(CONTENT_TYPE, media_type)
                .body(body.clone())
        };
        let response = self.request(&operation, &self.push_scope(), build).await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(answer::error(&operation, response).await)
        }
    }

    /// Every tag of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(
            Url::parse(&self.url("tags/list")).map_err(|e| Error::Registry {
                operation: "name the list of tags".to_owned(),
                source: Box::new(e),
            })?,
        );
        for _ in 0..TAG_PAGES_MAX {
            let Some(url) = next.take() else { break };
            let operation = format!("Get \"{url}\"");
            let response = self
                .request(&operation, &self.pull_scope(), |client| {
                    client.get(url.clone())
                })
                .await?;
            if !response.status().is_success() {
                return Err(answer::error(&operation, response).await);
            }
            if let Some(text) = header(response.headers(), LINK.as_str()) {
                next = link::next(&text)
                    .map(|target| self.locate(&url, target))
                    .transpose()?;
            }
            let body = answer::bounded(response, TAGS_BYTES_MAX).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|e| Error::Registry {
                operation: operation.clone(),
                source: Box::new(e),
            })?;
            tags.extend(
                page.tags
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|tag| crate::reference::is_tag(tag)),
            );
        }
        Ok(tags)
    }

    /// A request to a place the registry named itself: proof only if that is the registry.
    pub(super) async fn request_at(
        &self,
        operation: &str,
        method: Method,
        url: &Url,
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let own =
            Url::parse(&self.inner.endpoint.base).is_ok_and(|base| base.origin() == url.origin());
        let request = |client: &Client| finish(client.request(method.clone(), url.clone()));
        if own {
            return self.request(operation, &self.push_scope(), request).await;
        }
        let sent = request(&self.inner.client).send().await;
        sent.map_err(|e| Error::Registry {
            operation: operation.to_owned(),
            source: Box::new(e),
        })
    }
}

/// Whether a failed way to the registry may work in a moment. Refused redirects and broken requests won't.
fn may_pass(e: &reqwest::Error) -> bool {
    !(e.is_builder() || e.is_redirect() || e.is_status() || e.is_decode())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
