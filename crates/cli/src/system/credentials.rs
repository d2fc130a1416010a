//! Credentials of registries: kept in the configuration or by a helper program, sent in headers.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::failure::{Failure, os_words};

/// The name that the public registry's credentials are kept under.
pub const HUB: &str = "https://index.docker.io/v1/";

/// Credentials of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// Token that stands for both.
    pub identity_token: String,
}

impl Credentials {
    /// As the daemon takes them.
    pub fn json(&self, server: &str) -> Value {
        let mut map = Map::new();
        for (key, value) in [
            ("username", self.username.as_str()),
            ("password", &self.password),
            ("identitytoken", &self.identity_token),
        ] {
            if !value.is_empty() {
                map.insert(key.into(), value.into());
            }
        }
        map.insert("serveraddress".into(), server.into());
        Value::Object(map)
    }
}

/// Name of a registry without protocol and path, as the configuration may have it in either form.
pub fn host_of(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or(server.strip_prefix("http://"))
        .unwrap_or(server);
    rest.split('/').next().unwrap_or(rest)
}

/// The credentials for `server`, if any are known.
pub fn find(config: &Config, server: &str) -> Result<Option<Credentials>, Failure> {
    if let Some(helper) = config.helper(server) {
        return ask_helper(helper, server);
    }
    let mut entry = config.auth(server);
    if entry.is_none() {
        let known = config.servers();
        let same = known.iter().find(|name| host_of(name) == host_of(server));
        entry = same.and_then(|name| config.auth(name));
    }
    Ok(entry.map(decode))
}

fn decode(entry: &Value) -> Credentials {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut credentials = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
    };
    let bytes = STANDARD.decode(text("auth")).unwrap_or_default();
    let pair = String::from_utf8_lossy(&bytes);
    if let Some((username, password)) = pair.split_once(':') {
        credentials.username = username.to_owned();
        credentials.password = password.trim_end_matches('\0').to_owned();
    }
    credentials
}

/// Keeps the credentials. Says whether they lie in the configuration readable by anyone who can read it.
pub fn store(
    config: &mut Config,
    server: &str,
    credentials: &Credentials,
) -> Result<bool, Failure> {
    if let Some(helper) = config.helper(server).map(str::to_owned) {
        let (username, secret) = match credentials.identity_token.is_empty() {
            true => (credentials.username.as_str(), credentials.password.as_str()),
            false => ("<token>", credentials.identity_token.as_str()),
        };
        let request = json!({"ServerURL": server, "Username": username, "Secret": secret});
        run_helper(&helper, "store", &request.to_string())?;
        config.set_auth(server, Some(json!({})));
        config.save()?;
        return Ok(false);
    }
    let pair = format!("{}:{}", credentials.username, credentials.password);
    let mut entry = json!({"auth": STANDARD.encode(pair)});
    if !credentials.identity_token.is_empty() {
        entry = json!({
            "auth": STANDARD.encode(format!("{}:", credentials.username)),
            "identitytoken": credentials.identity_token,
        });
    }
    config.set_auth(server, Some(entry));
    config.save()?;
    Ok(true)
}

/// Forgets the credentials.
pub fn erase(config: &mut Config, server: &str) -> Result<(), Failure> {
    if let Some(helper) = config.helper(server).map(str::to_owned) {
        run_helper(&helper, "erase", server)?;
    }
    if config.auth(server).is_some() {
        config.set_auth(server, None);
        config.save()?;
    }
    Ok(())
}

fn ask_helper(helper: &str, server: &str) -> Result<Option<Credentials>, Failure> {
    let answer = match run_helper(helper, "get", server) {
        Ok(answer) => answer,
        Err(Failure::Said(text)) if text.contains("credentials not found") => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let value: Value = serde_json::from_str(&answer).map_err(|error| {
        Failure::said(format!(
            "error getting credentials - docker-credential-{helper}: {error}"
        ))
    })?;
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(Some(match text("Username").as_str() {
        "<token>" => Credentials {
            identity_token: text("Secret"),
            ..Credentials::default()
        },
        username => Credentials {
            username: username.to_owned(),
            password: text("Secret"),
            identity_token: String::new(),
        },
    }))
}

fn run_helper(helper: &str, verb: &str, input: &str) -> Result<String, Failure> {
    let program = format!("docker-credential-{helper}");
    let what = if verb == "get" { "getting" } else { "storing" };
    let failed = |why: String| Failure::said(format!("error {what} credentials - err: {why}"));
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("exec: {program:?}: {}", os_words(&error))))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading has said why in its answer.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(os_words(&error)))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(failed(format!("{}, out: `{text}`", output.status)))
}

/// `X-Registry-Auth` for `server`; an empty object when nothing is known.
pub fn header(config: &Config, server: &str) -> Result<String, Failure> {
    Ok(match find(config, server)? {
        Some(credentials) => URL_SAFE.encode(credentials.json(server).to_string()),
        None => URL_SAFE.encode("{}"),
    })
}

/// `X-Registry-Config`: everything that is known. A helper that fails only leaves its registry out.
pub fn all_header(config: &Config) -> String {
    let mut map = Map::new();
    for server in config.servers() {
        if let Ok(Some(credentials)) = find(config, &server) {
            map.insert(server.clone(), credentials.json(&server));
        }
    }
    URL_SAFE.encode(Value::Object(map).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_configuration() {
        let entry = json!({"auth": STANDARD.encode("me:a:b")});
        let credentials = decode(&entry);
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("me", "a:b")
        );
        assert_eq!(host_of("https://h:5000/v2/"), "h:5000");
    }
}
