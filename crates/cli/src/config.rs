//! The user's `config.json`: credentials, default formats, detach keys, extra headers, proxies.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The configuration and its file.
#[derive(Debug, Clone, Default)]
pub struct Config {
    folder: PathBuf,
    values: Map<String, Value>,
}

impl Config {
    /// Reads the file in `folder`, or in `$DOCKER_CONFIG`, or in `~/.docker`. A missing file is an empty one.
    pub fn load(folder: Option<&str>) -> Result<Config, Failure> {
        let folder = match folder
            .map(str::to_owned)
            .or_else(|| std::env::var("DOCKER_CONFIG").ok())
        {
            Some(folder) if !folder.is_empty() => PathBuf::from(folder),
            _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()))
                .join(".docker"),
        };
        let path = folder.join("config.json");
        let values = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::said(format!("{}: parsing config file: {error}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(Failure::file("open", path)(error)),
        };
        Ok(Config { folder, values })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// A text setting, or "".
    pub fn text(&self, name: &str) -> &str {
        self.values
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The helper program that keeps the credentials of `server`, without its prefix.
    pub fn helper(&self, server: &str) -> Option<&str> {
        self.values
            .get("credHelpers")
            .and_then(|helpers| helpers.get(server))
            .and_then(Value::as_str)
            .or_else(|| self.values.get("credsStore").and_then(Value::as_str))
            .filter(|helper| !helper.is_empty())
    }

    /// Every server that credentials are known for in the file or by a per-server helper.
    pub fn servers(&self) -> Vec<String> {
        let names = ["auths", "credHelpers"];
        let mut servers: Vec<String> = names
            .iter()
            .filter_map(|name| self.values.get(*name).and_then(Value::as_object))
            .flat_map(|map| map.keys().cloned())
            .collect();
        servers.sort();
        servers.dedup();
        servers
    }

    /// The entry of `auths` for `server`.
    pub fn auth(&self, server: &str) -> Option<&Value> {
        self.values.get("auths").and_then(|auths| auths.get(server))
    }

    /// Sets or removes the entry of `auths` for `server`.
    pub fn set_auth(&mut self, server: &str, entry: Option<Value>) {
        let auths = self.values.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            match entry {
                Some(entry) => auths.insert(server.to_owned(), entry),
                None => auths.remove(server),
            };
        }
    }

    /// Proxy settings for containers as environment, for the daemon at `host`.
    pub fn proxies(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxies) = self.values.get("proxies") else {
            return Vec::new();
        };
        let Some(settings) = proxies.get(host).or_else(|| proxies.get("default")) else {
            return Vec::new();
        };
        let names = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        names
            .iter()
            .filter_map(|(key, variable)| {
                let value = settings
                    .get(*key)
                    .and_then(Value::as_str)
                    .filter(|value| !value.is_empty())?;
                Some([
                    (variable.to_string(), value.to_owned()),
                    (variable.to_lowercase(), value.to_owned()),
                ])
            })
            .flatten()
            .collect()
    }

    /// Writes the file: a new one beside it, then renamed over it, readable by its owner only.
    pub fn save(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder).map_err(Failure::file("mkdir", &self.folder))?;
        let path = std::fs::canonicalize(self.path()).unwrap_or_else(|_| self.path());
        let fresh = path.with_extension(format!("json{}", std::process::id()));
        let mut text = serde_json::to_string_pretty(&self.values)
            .unwrap_or_default()
            .replace("  ", "\t");
        text.push('\n');
        let result = write_private(&fresh, text.trim_end().as_bytes())
            .and_then(|()| std::fs::rename(&fresh, &path));
        if result.is_err() {
            let _ = std::fs::remove_file(&fresh);
        }
        result.map_err(Failure::file("write", path))
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
