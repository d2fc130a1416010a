//! Which operation a path means (distribution-spec, "Endpoints"), and the grammar of names and tags.

use wharf_blob::Digest;

use crate::error::{Outcome, Refusal};

const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// What a path below `/v2/` names.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Base,
    Catalog,
    Blob { name: String, digest: Digest },
    Uploads { name: String },
    Upload { name: String, id: String },
    Manifest { name: String, reference: Reference },
    Tags { name: String },
    Referrers { name: String, digest: Digest },
}

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Route {
    /// Parses a path. Repository names hold slashes, so the end of the path decides.
    pub fn parse(path: &str) -> Outcome<Route> {
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Route::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(Refusal::not_found)?,
            None => return Err(Refusal::not_found()),
        };
        if rest == "_catalog" {
            return Ok(Route::Catalog);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Ok(Route::Uploads {
                name: check_name(name)?,
            });
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Route::Tags {
                name: check_name(name)?,
            });
        }
        let (front, last) = rest.rsplit_once('/').ok_or_else(Refusal::not_found)?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            return Ok(Route::Upload {
                name: check_name(name)?,
                id: check_upload(last)?,
            });
        }
        if let Some(name) = front.strip_suffix("/blobs") {
            return Ok(Route::Blob {
                name: check_name(name)?,
                digest: Digest::parse(last)?,
            });
        }
        if let Some(name) = front.strip_suffix("/manifests") {
            return Ok(Route::Manifest {
                name: check_name(name)?,
                reference: Reference::parse(last)?,
            });
        }
        if let Some(name) = front.strip_suffix("/referrers") {
            return Ok(Route::Referrers {
                name: check_name(name)?,
                digest: Digest::parse(last)?,
            });
        }
        Err(Refusal::not_found())
    }
}

impl Reference {
    fn parse(text: &str) -> Outcome<Reference> {
        if text.contains(':') {
            return Ok(Reference::Digest(Digest::parse(text)?));
        }
        let mut bytes = text.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let others = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !first || !others || text.len() > TAG_BYTES_MAX {
            return Err(Refusal::tag_invalid(text));
        }
        Ok(Reference::Tag(text.to_owned()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*`: no component can begin with `_` or be `..`.
pub fn check_name(name: &str) -> Outcome<String> {
    let good = name.len() <= NAME_BYTES_MAX && name.split('/').all(good_component);
    if good {
        Ok(name.to_owned())
    } else {
        Err(Refusal::name_invalid(name))
    }
}

fn good_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separator_is_good =
        |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    let bytes = component.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .filter(|run| !run.is_empty())
            .all(separator_is_good)
}

fn check_upload(id: &str) -> Outcome<String> {
    if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(id.to_owned())
    } else {
        Err(Refusal::upload_unknown(
            &id.chars().take(64).collect::<String>(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_end_of_the_path_decides() {
        let name = "a/blobs/b".to_owned();
        assert_eq!(Route::parse("/v2/").unwrap(), Route::Base);
        assert_eq!(Route::parse("/v2/_catalog").unwrap(), Route::Catalog);
        assert_eq!(
            Route::parse("/v2/a/blobs/b/tags/list").unwrap(),
            Route::Tags { name: name.clone() }
        );
        assert_eq!(
            Route::parse("/v2/a/blobs/b/blobs/uploads/").unwrap(),
            Route::Uploads { name: name.clone() }
        );
        assert_eq!(
            Route::parse(&format!("/v2/a/blobs/b/blobs/{DIGEST}")).unwrap(),
            Route::Blob {
                name: name.clone(),
                digest: Digest::parse(DIGEST).unwrap()
            }
        );
        assert_eq!(
            Route::parse("/v2/a/blobs/b/manifests/v1.0").unwrap(),
            Route::Manifest {
                name,
                reference: Reference::Tag("v1.0".into())
            }
        );
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "..", "a/../b", "A", "a//b", "_layers", "a/_tags", "-a", "a-", "a___b", "a..b", "",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "a/b", "a-b", "a--b", "a_b", "a__b", "a.b/c9"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        for path in [
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/sha256:zz",
            "/v2/a/blobs/uploads/../x",
            "/v1/x",
            "/v2x",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
