//! Making an image of a container.

use serde_json::{Map, Value, json};

use crate::error_from::{blocking, io};
use crate::record::Record;
use crate::{CommitOptions, Engine, Error, Kind, Result, Status};

impl Engine {
    /// Makes an image of a container. `changes` are Dockerfile instructions of the kind that change configuration only.
    pub async fn commit(
        &self,
        container: &str,
        options: CommitOptions,
    ) -> Result<wharf_image::Image> {
        let entry = self.inner.containers.find(container)?;
        let target = match options
            .target
            .as_deref()
            .filter(|target| !target.is_empty())
        {
            Some(text) => Some(wharf_image::Reference::parse(text)?.or_latest()),
            None => None,
        };
        let frozen = options.pause
            && entry.record().state.status == Status::Running
            && self.pause(&entry.id).await.is_ok();
        let (engine, record) = (self.clone(), entry.record().clone());
        let outcome =
            blocking(move || engine.commit_blocking(&record, &options, target.as_ref())).await;
        if frozen {
            match self.unpause(&entry.id).await {
                // It ended meanwhile: nothing is frozen any more.
                Err(error) if error.kind == Kind::Conflict => {}
                outcome => outcome?,
            }
        }
        let image = outcome?;
        self.container_event(&entry, "commit", &[("imageID", image.id.clone())]);
        Ok(image)
    }

    fn commit_blocking(
        &self,
        record: &Record,
        options: &CommitOptions,
        target: Option<&wharf_image::Reference>,
    ) -> Result<wharf_image::Image> {
        let base = self.inner.images.resolve(&record.image_id)?;
        let layer = self
            .inner
            .images
            .commit_layer(&record.id, crate::bundle::MOUNTPOINTS)?;
        let mut image: Value = serde_json::from_slice(&base.config_bytes)
            .map_err(io("read the image's configuration"))?;
        let mut config = config_of(record);
        for change in &options.changes {
            apply(&mut config, change)?;
        }
        let now = jiff::Timestamp::now().to_string();
        if !image.is_object() {
            image = json!({});
        }
        image["config"] = Value::Object(config);
        image["created"] = json!(now);
        image["author"] = json!(options.author);
        image["container"] = json!(record.id);
        let diff_ids = &mut image["rootfs"]["diff_ids"];
        match diff_ids.as_array_mut() {
            Some(list) => list.push(json!(layer.diff_id)),
            None => image["rootfs"] = json!({"type": "layers", "diff_ids": [layer.diff_id]}),
        }
        let mut step = json!({"created": now, "created_by": record.argv.join(" ")});
        if !options.comment.is_empty() {
            step["comment"] = json!(options.comment);
        }
        match image["history"].as_array_mut() {
            Some(list) => list.push(step),
            None => image["history"] = json!([step]),
        }
        let bytes = serde_json::to_vec(&image).map_err(io("write the image's configuration"))?;
        Ok(self
            .inner
            .images
            .create(&bytes, Some(&record.image_id), target)?)
    }
}

/// The container's configuration as an image's.
fn config_of(record: &Record) -> Map<String, Value> {
    let spec = &record.spec;
    let set = |entries: Vec<String>| {
        entries
            .into_iter()
            .map(|entry| (entry, json!({})))
            .collect::<Map<_, _>>()
    };
    let mut config = Map::new();
    let mut put = |key: &str, value: Value| {
        let empty = value.is_null()
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_str().is_some_and(str::is_empty);
        if !empty {
            config.insert(key.to_owned(), value);
        }
    };
    put("User", json!(spec.user));
    put("Env", json!(spec.env));
    put("Cmd", json!(spec.cmd));
    put("Entrypoint", json!(spec.entrypoint));
    put("WorkingDir", json!(spec.working_dir));
    put("Labels", json!(spec.labels));
    put("StopSignal", json!(spec.stop_signal));
    put("Shell", json!(spec.shell));
    put(
        "ExposedPorts",
        Value::Object(set(spec
            .exposed_ports
            .iter()
            .map(|(port, protocol)| format!("{port}/{protocol}"))
            .collect())),
    );
    put("Volumes", Value::Object(set(spec.volumes.clone())));
    if let Some(health) = &spec.healthcheck {
        put(
            "Healthcheck",
            json!({"Test": health.test, "Interval": health.interval_ns, "Timeout": health.timeout_ns,
                "StartPeriod": health.start_period_ns, "Retries": health.retries}),
        );
    }
    config
}

/// One instruction of `--change`.
/// An image's configuration made of Dockerfile instructions of the kind that change configuration only.
pub fn config_of_changes(changes: &[String]) -> Result<Value> {
    let mut config = Map::new();
    for change in changes.iter().flat_map(|text| text.lines()) {
        apply(&mut config, change)?;
    }
    Ok(Value::Object(config))
}

fn apply(config: &mut Map<String, Value>, change: &str) -> Result<()> {
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    let list = || match serde_json::from_str::<Vec<String>>(rest) {
        Ok(list) => list,
        Err(_) => vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()],
    };
    match word.to_ascii_uppercase().as_str() {
        "CMD" => drop(config.insert("Cmd".into(), json!(list()))),
        "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), json!(list()))),
        "USER" => drop(config.insert("User".into(), json!(rest))),
        "WORKDIR" => drop(config.insert("WorkingDir".into(), json!(rest))),
        "STOPSIGNAL" => drop(config.insert("StopSignal".into(), json!(rest))),
        "ENV" => {
            for (key, value) in pairs(rest) {
                let entries = config.entry("Env").or_insert_with(|| json!([]));
                if let Some(list) = entries.as_array_mut() {
                    list.retain(|entry| {
                        !entry
                            .as_str()
                            .is_some_and(|e| e.starts_with(&format!("{key}=")))
                    });
                    list.push(json!(format!("{key}={value}")));
                }
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest) {
                config.entry("Labels").or_insert_with(|| json!({}))[key] = json!(value);
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                config.entry("ExposedPorts").or_insert_with(|| json!({}))[port] = json!({});
            }
        }
        "VOLUME" => {
            let places = serde_json::from_str::<Vec<String>>(rest)
                .unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect());
            for place in places {
                config.entry("Volumes").or_insert_with(|| json!({}))[place] = json!({});
            }
        }
        other => {
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("{other} is not a valid change command"),
            ));
        }
    }
    Ok(())
}

/// `A=1 B="two words"`, or the old form `A value`.
fn pairs(text: &str) -> Vec<(String, String)> {
    if !text
        .split_whitespace()
        .next()
        .is_some_and(|first| first.contains('='))
    {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return vec![(key.to_owned(), value.trim().to_owned())];
    }
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars().chain(std::iter::once(' ')) {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => {
                if let Some((key, value)) = word.split_once('=') {
                    found.push((key.to_owned(), value.to_owned()));
                }
                word.clear();
            }
            (c, _) => word.push(c),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied() {
        let mut config = Map::new();
        for change in [
            "CMD [\"a\", \"b\"]",
            "ENV A=1 B=\"two words\"",
            "ENV A=2",
            "EXPOSE 80 53/udp",
            "LABEL x=y",
            "user ann",
            "VOLUME /data",
        ] {
            apply(&mut config, change).unwrap();
        }
        let expected = json!({
            "Cmd": ["a", "b"], "Env": ["B=two words", "A=2"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Labels": {"x": "y"}, "User": "ann", "Volumes": {"/data": {}},
        });
        assert_eq!(Value::Object(config), expected);
        assert!(apply(&mut Map::new(), "RUN x").is_err());
    }
}
