//! Docker's image configuration: fields that OCI lacks are kept, whatever else was there too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::instruction::Health;

/// What containers of an image start with (Docker's `config`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Value>>,
    pub working_dir: String,
    pub entrypoint: Option<Vec<String>>,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else an image brings along.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Docker's `Healthcheck`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HealthConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl From<&Health> for HealthConfig {
    fn from(health: &Health) -> HealthConfig {
        HealthConfig {
            test: health.test.clone(),
            interval: health.interval_ns,
            timeout: health.timeout_ns,
            start_period: health.start_period_ns,
            start_interval: health.start_interval_ns,
            retries: health.retries,
        }
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl RunConfig {
    /// The shell of RUN, CMD and ENTRYPOINT in shell form.
    pub fn shell(&self) -> Vec<String> {
        match &self.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    /// Value of a variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        let fits = |entry: &'_ &String| entry.split_once('=').is_some_and(|(key, _)| key == name);
        let entry = self.env.iter().find(fits)?;
        entry.split_once('=').map(|(_, value)| value)
    }

    /// Sets a variable in its old place, or at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let fits = |old: &&mut String| old.split('=').next() == Some(name);
        match self.env.iter_mut().find(fits) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }

    /// Every image has a search path.
    pub fn complete(&mut self) {
        if self.env("PATH").is_none() {
            self.env.push(PATH.to_owned());
        }
    }
}

/// A whole configuration.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    whole: Map<String, Value>,
    /// The part that instructions change.
    pub config: RunConfig,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub created: String,
    pub created_by: String,
    /// Of the layer, where the step made one that holds something.
    pub diff_id: Option<String>,
    pub author: Option<String>,
}

impl Document {
    /// Of an image that is here.
    pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
        let malformed =
            |e: serde_json::Error| Error::Invalid(format!("malformed image configuration: {e}"));
        let mut whole: Map<String, Value> = serde_json::from_slice(bytes).map_err(malformed)?;
        let mut config = whole.remove("config").unwrap_or(Value::Null);
        drop_nulls(&mut config);
        let mut config: RunConfig = match config {
            Value::Null => RunConfig::default(),
            config => serde_json::from_value(config).map_err(malformed)?,
        };
        config.complete();
        // They describe the container that an older step ran in.
        for old in [
            "container",
            "container_config",
            "docker_version",
            "id",
            "parent",
        ] {
            whole.remove(old);
        }
        Ok(Document { whole, config })
    }

    /// Of nothing (`FROM scratch`).
    pub fn scratch(architecture: &str) -> Document {
        let whole = json!({
            "architecture": architecture,
            "os": "linux",
            "history": [],
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let mut config = RunConfig::default();
        config.complete();
        Document {
            whole: whole.as_object().cloned().unwrap_or_default(),
            config,
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.whole.get(key).and_then(Value::as_str)
    }

    /// Digests of the uncompressed layers.
    pub fn diff_ids(&self) -> Vec<String> {
        let list = self
            .whole
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"));
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|id| id.as_str().map(str::to_owned))
            .collect()
    }

    /// Replaces all layers above the first `keep` by one (`--squash`).
    pub fn squash(&mut self, keep: usize, entry: &Entry) {
        let kept: Vec<String> = self.diff_ids().into_iter().take(keep).collect();
        if let Some(rootfs) = self.whole.get_mut("rootfs").and_then(Value::as_object_mut) {
            rootfs.insert("diff_ids".to_owned(), json!(kept));
        }
        let mut seen = 0;
        let history = self.whole.get_mut("history").and_then(Value::as_array_mut);
        for old in history
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            if old.get("empty_layer") != Some(&Value::Bool(true)) {
                seen += 1;
                if seen > keep {
                    old.insert("empty_layer".to_owned(), Value::Bool(true));
                }
            }
        }
        self.add(entry, "merge");
    }

    /// Adds what a step did.
    pub fn add(&mut self, entry: &Entry, comment: &str) {
        let mut line = Map::new();
        line.insert("created".to_owned(), json!(entry.created));
        line.insert("created_by".to_owned(), json!(entry.created_by));
        if let Some(author) = &entry.author {
            self.whole.insert("author".to_owned(), json!(author));
        }
        if let Some(author) = self.whole.get("author") {
            line.insert("author".to_owned(), author.clone());
        }
        if !comment.is_empty() {
            line.insert("comment".to_owned(), json!(comment));
        }
        match &entry.diff_id {
            None => drop(line.insert("empty_layer".to_owned(), Value::Bool(true))),
            Some(diff_id) => {
                let rootfs = self
                    .whole
                    .entry("rootfs")
                    .or_insert_with(|| json!({"type": "layers"}));
                let list = rootfs
                    .as_object_mut()
                    .map(|rootfs| rootfs.entry("diff_ids").or_insert_with(|| json!([])));
                if let Some(list) = list.and_then(Value::as_array_mut) {
                    list.push(json!(diff_id));
                }
            }
        }
        let history = self.whole.entry("history").or_insert_with(|| json!([]));
        if let Some(history) = history.as_array_mut() {
            history.push(Value::Object(line));
        }
        self.whole
            .insert("created".to_owned(), json!(entry.created));
    }

    /// The bytes that are hashed.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let failed =
            |e: serde_json::Error| Error::Invalid(format!("can't write a configuration: {e}"));
        let mut whole = self.whole.clone();
        let config = serde_json::to_value(&self.config).map_err(failed)?;
        whole.insert("config".to_owned(), config);
        serde_json::to_vec(&whole).map_err(failed)
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(array) => array.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_does_not_know() {
        let base = br#"{"architecture":"arm64","variant":"v8","os":"linux","container":"x","config":{"Env":null,"Cmd":["sh"],"ArgsEscaped":true,"OnBuild":["RUN x"],"Healthcheck":{"Test":["NONE"]}},"history":[{"created_by":"a"}],"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#;
        let mut document = Document::parse(base).unwrap();
        assert_eq!(document.config.env("PATH"), Some(&PATH[5..]));
        document.config.set_env("A", "1");
        document.config.set_env("A", "2");
        let entry = |diff_id: Option<&str>| Entry {
            created: "t".into(),
            created_by: "b".into(),
            diff_id: diff_id.map(str::to_owned),
            author: None,
        };
        document.add(&entry(Some("sha256:2")), "");
        document.add(&entry(None), "");
        let value: Value = serde_json::from_slice(&document.bytes().unwrap()).unwrap();
        assert_eq!(value["variant"], "v8");
        assert_eq!(value["config"]["ArgsEscaped"], true);
        assert_eq!(value["config"]["Env"], json!([PATH, "A=2"]));
        assert_eq!(value["config"]["Healthcheck"], json!({"Test": ["NONE"]}));
        assert_eq!(value["config"]["OnBuild"], json!(["RUN x"]));
        assert_eq!(value["rootfs"]["diff_ids"], json!(["sha256:1", "sha256:2"]));
        assert_eq!(value["history"].as_array().unwrap().len(), 3);
        assert_eq!(value["history"][2]["empty_layer"], true);
        assert_eq!(value.get("container"), None);
        document.squash(1, &entry(Some("sha256:9")));
        assert_eq!(document.diff_ids(), ["sha256:1", "sha256:9"]);
        let value: Value = serde_json::from_slice(&document.bytes().unwrap()).unwrap();
        assert_eq!(value["history"][1]["empty_layer"], true);
    }
}
