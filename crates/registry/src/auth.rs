//! Who may use the registry: users of an htpasswd file with bcrypt hashes, by HTTP Basic authentication.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::error::{Outcome, Refusal};

/// Successful checks that are remembered, since bcrypt is slow on purpose.
const REMEMBERED_MAX: usize = 1024;

/// The users; read again when the file changes.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    modified: Option<SystemTime>,
    hashes: HashMap<String, String>,
    /// Salted digests of credentials that were right: the passwords themselves are not kept.
    remembered: HashSet<[u8; 32]>,
    salt: [u8; 32],
}

impl Users {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Users, String> {
        let mut salt = [0; 32];
        rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| format!("read random bytes: {e}"))?;
        let (modified, hashes) = read(path)?;
        let state = State {
            modified,
            hashes,
            remembered: HashSet::new(),
            salt,
        };
        Ok(Users {
            path: path.to_owned(),
            state: Mutex::new(state),
        })
    }

    /// Lets a request pass, or tells the client to log in. Blocks for the time of a bcrypt check.
    pub fn check(&self, headers: &HeaderMap) -> Outcome<()> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(Refusal::unauthorized(
                "authentication required: log in first (docker login)",
            ));
        };
        let wrong = || Refusal::unauthorized("the user name or the password is wrong");
        let (user, password) = value
            .to_str()
            .ok()
            .and_then(parse_basic)
            .ok_or_else(wrong)?;
        if self.is_right(&user, &password) {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    fn is_right(&self, user: &str, password: &str) -> bool {
        let (hash, key) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.refresh(&mut state);
            let key = state.key(user, password);
            if state.remembered.contains(&key) {
                return true;
            }
            (state.hashes.get(user).cloned(), key)
        };
        // An unknown user costs the same time as a known one.
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| DUMMY_HASH.to_owned());
        if !bcrypt::verify(password, &hash).unwrap_or(false) || !known {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.remembered.len() >= REMEMBERED_MAX {
            state.remembered.clear();
        }
        state.remembered.insert(key);
        true
    }

    fn refresh(&self, state: &mut State) {
        let modified = fs::metadata(&self.path).and_then(|m| m.modified()).ok();
        if modified == state.modified {
            return;
        }
        match read(&self.path) {
            Ok((modified, hashes)) => {
                state.modified = modified;
                state.hashes = hashes;
                state.remembered.clear();
            }
            Err(error) => tracing::warn!(error, "users could not be read again; the old ones stay"),
        }
    }
}

/// bcrypt of a password nobody has, at the usual cost.
const DUMMY_HASH: &str = "$2b$10$7EqJtq98hPqEX7fNZaFWoOhi5BWX4Z1Z3VxE8lmyy6h6Zy/YPj4Oa";

impl State {
    fn key(&self, user: &str, password: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((user.len() as u64).to_le_bytes());
        hasher.update(user);
        hasher.update(password);
        hasher.finalize().into()
    }
}

type Read = (Option<SystemTime>, HashMap<String, String>);

fn read(path: &Path) -> Result<Read, String> {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
    let text = fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let mut hashes = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let hash = line
            .split_once(':')
            .filter(|(user, hash)| !user.is_empty() && hash.starts_with("$2"));
        let (user, hash) = hash.ok_or_else(|| {
            format!(
                "{} line {}: expected USER:BCRYPT-HASH; make it with `htpasswd -nB USER`",
                path.display(),
                number + 1
            )
        })?;
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    Ok((modified, hashes))
}

fn parse_basic(value: &str) -> Option<(String, String)> {
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(token.trim())
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
