//! Who asks: client certificates, tokens of several sorts, impersonation, or nobody.

pub mod bootstrap;
pub mod certificate;
pub mod impersonate;
pub mod jwt;
pub mod review;
pub mod service_account;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_kube_types::Status;

use crate::api::Api;
use service_account::Issuer;

/// Group of everyone with a proven identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everyone without one.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of those who may do everything.
pub const MASTERS: &str = "system:masters";

/// Verified tokens that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The uid, or empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Anything more.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A part of the server itself.
    pub fn system(who: &str) -> Self {
        Self {
            name: format!("system:wharf:{who}"),
            groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// As `UserInfo` in reviews and in webhooks' requests.
    pub fn to_value(&self) -> Value {
        let mut out = json!({"username": self.name});
        if !self.uid.is_empty() {
            out["uid"] = self.uid.clone().into();
        }
        out["groups"] = self.groups.clone().into();
        if !self.extra.is_empty() {
            out["extra"] = json!(self.extra);
        }
        out
    }
}

/// A token that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Whose it is.
    pub user: Arc<User>,
    /// For whom it was made; empty for everyone.
    pub audiences: Vec<String>,
}

/// Proves identities.
#[derive(Debug)]
pub struct Authenticator {
    /// Makes and checks tokens of service accounts.
    pub issuer: Issuer,
    fixed: HashMap<String, Arc<User>>,
    /// Signatures that were checked, by the digest of their token.
    verified: Mutex<HashMap<[u8; 32], Arc<Value>>>,
}

impl Authenticator {
    /// With the tokens of a file in the format of `--token-auth-file`: `token,user,uid,"group,group"`.
    pub fn new(issuer: Issuer, token_file: &str) -> Self {
        let fixed = token_file.lines().filter_map(fixed_token).collect();
        Self {
            issuer,
            fixed,
            verified: Mutex::default(),
        }
    }

    /// Who holds a bearer token, if it is good for one of the audiences.
    ///
    /// # Errors
    /// Why it is not.
    pub fn token(&self, api: &Api, token: &str, audiences: &[String]) -> Result<Accepted, String> {
        if let Some(user) = self.fixed.get(token) {
            return Ok(Accepted {
                user: user.clone(),
                audiences: audiences.to_vec(),
            });
        }
        if let Some(user) = bootstrap::user(api, token) {
            return Ok(Accepted {
                user: Arc::new(user),
                audiences: audiences.to_vec(),
            });
        }
        let claims = self.claims(token)?;
        service_account::accept(api, &self.issuer, &claims, audiences)
    }

    /// The claims of a token with a good signature.
    fn claims(&self, token: &str) -> Result<Arc<Value>, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = verified().get(&digest) {
            return Ok(claims.clone());
        }
        let claims = Arc::new(self.issuer.verify(token)?);
        let mut known = verified();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(digest, claims.clone());
        Ok(claims)
    }

    /// Who sends a request: by certificate, else by token, else nobody.
    ///
    /// # Errors
    /// 401 for a token that is no good.
    pub fn request(
        &self,
        api: &Api,
        certificate: Option<&Arc<User>>,
        authorization: Option<&str>,
    ) -> Result<Arc<User>, Status> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        let Some(header) = authorization else {
            return Ok(Arc::new(User::anonymous()));
        };
        let Some((scheme, token)) = header.split_once(' ') else {
            return Err(Status::unauthorized());
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Status::unauthorized());
        }
        let own = [self.issuer.audience.clone()];
        match self.token(api, token.trim(), &own) {
            Ok(accepted) => Ok(accepted.user),
            Err(why) => {
                tracing::debug!(%why, "refused a token");
                Err(Status::unauthorized())
            }
        }
    }
}

fn fixed_token(line: &str) -> Option<(String, Arc<User>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut parts = line.splitn(4, ',').map(str::trim);
    let (token, name) = (parts.next()?, parts.next()?);
    let uid = parts.next().unwrap_or_default();
    let groups = parts.next().unwrap_or_default().trim_matches('"');
    let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty());
    let user = User {
        name: name.to_owned(),
        uid: uid.to_owned(),
        groups: groups
            .map(str::to_owned)
            .chain([AUTHENTICATED.to_owned()])
            .collect(),
        extra: BTreeMap::new(),
    };
    (!token.is_empty() && !name.is_empty()).then(|| (token.to_owned(), Arc::new(user)))
}
