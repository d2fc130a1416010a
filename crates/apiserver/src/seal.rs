//! Secrets at rest: sealed with AES-256-GCM under a key of this data root, each under the name of its place.

use std::path::Path;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::certificates::{Error, write_file};

/// First byte of a sealed value; then nonce, text, tag.
const FORMAT: u8 = 2;
const SEALED: &str = "core/secrets/";

/// One process serves one data root: its key is known to all who read or write the store.
static KEY: OnceLock<LessSafeKey> = OnceLock::new();

/// Reads the key of a data root, making it if it is missing.
///
/// # Errors
/// The file can't be read or written.
pub fn prepare(folder: &Path) -> Result<(), Error> {
    let path = folder.join("secrets.key");
    let fail = |source| Error::File {
        operation: "read",
        path: path.clone(),
        source,
    };
    let bytes: [u8; 32] = match std::fs::read_to_string(&path) {
        Ok(text) => STANDARD
            .decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                fail(std::io::Error::other(
                    "it holds no key of 32 bytes: restore it, without it Secrets can't be read",
                ))
            })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes = crate::random::bytes();
            write_file(&path, STANDARD.encode(bytes).as_bytes(), 0o600)?;
            bytes
        }
        Err(error) => return Err(fail(error)),
    };
    if let Ok(key) = UnboundKey::new(&AES_256_GCM, &bytes) {
        let _ = KEY.set(LessSafeKey::new(key));
    }
    Ok(())
}

/// What is stored of a value.
pub fn seal(place: &str, value: Bytes) -> Bytes {
    let Some(key) = KEY.get().filter(|_| place.starts_with(SEALED)) else {
        return value;
    };
    let nonce: [u8; NONCE_LEN] = crate::random::bytes();
    let mut text = value.to_vec();
    let aad = Aad::from(place.as_bytes());
    if key
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
        .is_err()
    {
        // Only values of many gigabytes can't be sealed, and those are refused long before.
        return value;
    }
    let mut out = Vec::with_capacity(1 + NONCE_LEN + text.len());
    out.push(FORMAT);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&text);
    out.into()
}

/// The value that was stored; nothing if it was sealed with another key or for another place.
pub fn open(place: &str, stored: Bytes) -> Option<Bytes> {
    if stored.first() != Some(&FORMAT) {
        return Some(stored);
    }
    let nonce: [u8; NONCE_LEN] = stored.get(1..1 + NONCE_LEN)?.try_into().ok()?;
    let mut text = stored[1 + NONCE_LEN..].to_vec();
    let aad = Aad::from(place.as_bytes());
    let length = KEY
        .get()?
        .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut text)
        .ok()?
        .len();
    text.truncate(length);
    Some(text.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_only_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path()).unwrap();
        let value = Bytes::from_static(b"\x01 the text");
        let sealed = seal("core/secrets/n/a", value.clone());
        assert!(!sealed.windows(8).any(|w| w == b"the text"));
        assert_eq!(
            open("core/secrets/n/a", sealed.clone()),
            Some(value.clone())
        );
        assert_eq!(open("core/secrets/n/b", sealed.clone()), None);
        let mut torn = sealed.to_vec();
        torn[20] ^= 1;
        assert_eq!(open("core/secrets/n/a", torn.into()), None);
        assert_eq!(seal("core/configmaps/n/a", value.clone()), value);
    }
}
