//! Names of images by the distribution grammar, and the short forms that people write.

use std::fmt;

use crate::{Error, Result};

/// The registry that names without one belong to.
pub(crate) const HUB: &str = "docker.io";
const HUB_PREFIX: &str = "library/";
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// Cuts or completes a reference: `nginx` → (`docker.io/library/nginx`, `latest`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Reference {
    /// `docker.io`, `localhost:5000` …
    pub registry: String,
    /// `library/nginx`, `user/app` …
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// Parses by the distribution grammar; familiar names are completed. No default tag is added.
    pub fn parse(text: &str) -> Result<Reference> {
        if text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            let reason =
                format!("repository name ({text}), cannot specify 64-byte hexadecimal strings");
            return Err(Error::InvalidReference(reason));
        }
        let (registry, remainder) = split_registry(text);
        let (rest, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if repository.to_lowercase() != repository && is_repository(&repository.to_lowercase()) {
            return Err(Error::InvalidReference(format!(
                "repository name ({repository}) must be lowercase"
            )));
        }
        let fine = is_registry(&registry)
            && is_repository(repository)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(|digest| wharf_blob::Digest::parse(digest).is_ok());
        if !fine {
            return Err(Error::InvalidReference(String::new()));
        }
        if registry.len() + 1 + repository.len() > NAME_LEN_MAX {
            let reason = format!("repository name must not be more than {NAME_LEN_MAX} characters");
            return Err(Error::InvalidReference(reason));
        }
        Ok(Reference {
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
            registry,
        })
    }

    /// The same with `latest` where neither tag nor digest is given.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// As people write it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    /// `nginx` without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(HUB_PREFIX) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// Complete, with registry, without tag and digest: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository by digest alone.
    pub fn by_digest(&self, digest: &str) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }

    /// What is asked of the registry: the digest, else the tag, else `latest`.
    pub fn selector(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }

    fn with_suffixes(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = text + ":" + tag;
        }
        if let Some(digest) = &self.digest {
            text = text + "@" + digest;
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffixes(self.name()))
    }
}

/// The part before the first slash is a registry only if it could not be a part of a repository on the hub.
fn split_registry(text: &str) -> (String, String) {
    let (registry, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.to_lowercase() != first =>
        {
            (first, rest.to_owned())
        }
        _ => (HUB, text.to_owned()),
    };
    let registry = if registry == "index.docker.io" {
        HUB
    } else {
        registry
    };
    if registry == HUB && !remainder.contains('/') {
        return (HUB.to_owned(), format!("{HUB_PREFIX}{remainder}"));
    }
    (registry.to_owned(), remainder)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return is_ipv6(address),
            Some((address, port)) => {
                return is_ipv6(address) && port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let component = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(component) && port.is_none_or(is_port)
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_repository(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Runs of `[a-z0-9]+`, joined by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_LEN_MAX
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_familiar_names() {
        let hex = "0123456789abcdef".repeat(4);
        let digest = format!("sha256:{hex}");
        let table = [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
            (
                "index.docker.io/library/nginx:a",
                "docker.io/library/nginx:a",
                "nginx:a",
            ),
            ("localhost/app", "localhost/app", "localhost/app"),
            (
                "localhost:5000/a/b:1",
                "localhost:5000/a/b:1",
                "localhost:5000/a/b:1",
            ),
            ("Registry/app", "Registry/app", "Registry/app"),
            ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
            (
                "127.0.0.1:5000/app",
                "127.0.0.1:5000/app",
                "127.0.0.1:5000/app",
            ),
            (
                "reg.example.com/a__b/c--d/e.f_g",
                "reg.example.com/a__b/c--d/e.f_g",
                "reg.example.com/a__b/c--d/e.f_g",
            ),
            (
                "library/library/x",
                "docker.io/library/library/x",
                "library/library/x",
            ),
            (
                &format!("nginx:v1@{digest}"),
                &format!("docker.io/library/nginx:v1@{digest}"),
                &format!("nginx:v1@{digest}"),
            ),
        ];
        for (text, full, familiar) in table {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(
                Reference::parse(&reference.to_string()).unwrap(),
                reference,
                "{text} again"
            );
        }
        assert_eq!(
            Reference::parse("nginx").unwrap().or_latest().familiar(),
            "nginx:latest"
        );
    }

    #[test]
    fn refuses_what_the_grammar_refuses() {
        let long = "a/".repeat(128) + "a";
        let tag = format!("nginx:{}", "t".repeat(129));
        let hex = "0123456789abcdef".repeat(4);
        for bad in [
            "",
            ":",
            "/",
            "@",
            "nginx:",
            ":tag",
            "nginx:tag:tag",
            "Nginx",
            "user/App",
            "-nginx",
            "nginx-",
            "a..b",
            "a___b",
            "a//b",
            "/a",
            "a/",
            "nginx:-x",
            "nginx:.x",
            "nginx@sha256:12",
            "a@",
            "nginx@md5:00",
            "nginx tag",
            "nginx\n",
            "a:b:c/d",
            "-reg.io/a",
            "reg-.io/a",
            "reg.io:port/a",
            "[::1/a",
            "[zz::1]:5/a",
            "nginx:tág",
            "../a",
            "a/../b",
            "a/./b",
            "http://reg.io/a",
            &long,
            &tag,
            &hex,
        ] {
            let error = Reference::parse(bad).expect_err(bad);
            assert!(
                error.to_string().starts_with("invalid reference format"),
                "{bad}: {error}"
            );
        }
        let error = Reference::parse("user/App").unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid reference format: repository name (user/App) must be lowercase"
        );
    }
}
