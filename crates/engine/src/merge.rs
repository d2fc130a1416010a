//! What the image says by default, merged into what was asked for (image-spec, "Conversion to OCI Runtime
//! Configuration", and Docker's fields beyond it).

use std::collections::BTreeMap;

use serde::Deserialize;
use wharf_image::Image;
use wharf_net::Protocol;

use crate::{ContainerSpec, Error, Healthcheck, Kind, Result};

/// The `config` object of an image, with the fields that only Docker has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageDefaults {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    healthcheck: Option<ImageHealthcheck>,
    shell: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ImageHealthcheck {
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Whole {
    config: Option<ImageDefaults>,
}

impl ImageDefaults {
    /// Reads them from an image's configuration.
    pub fn of(image: &Image) -> Result<ImageDefaults> {
        let whole: Whole = serde_json::from_slice(&image.config_bytes).map_err(|e| {
            Error::with(
                Kind::Internal,
                format!("the configuration of image {} is malformed", image.id),
                e,
            )
        })?;
        Ok(whole.config.unwrap_or_default())
    }

    /// Fills in what was not asked for.
    pub fn merge_into(self, spec: &mut ContainerSpec) {
        if spec.user.is_empty() {
            spec.user = self.user.unwrap_or_default();
        }
        if spec.working_dir.is_empty() {
            spec.working_dir = self.working_dir.unwrap_or_default();
        }
        // A new entrypoint does not go with the image's arguments.
        if spec.entrypoint.is_none() {
            if spec.cmd.as_ref().is_none_or(Vec::is_empty) {
                spec.cmd = self.cmd;
            }
            spec.entrypoint = self.entrypoint;
        }
        spec.env = merge_env(self.env.unwrap_or_default(), &spec.env);
        for port in self
            .exposed_ports
            .unwrap_or_default()
            .keys()
            .filter_map(|text| parse_port(text))
        {
            if !spec.exposed_ports.contains(&port) {
                spec.exposed_ports.push(port);
            }
        }
        spec.exposed_ports.sort();
        for path in self.volumes.unwrap_or_default().into_keys() {
            if !spec.volumes.contains(&path) {
                spec.volumes.push(path);
            }
        }
        for (key, value) in self.labels.unwrap_or_default() {
            spec.labels.entry(key).or_insert(value);
        }
        spec.stop_signal = spec
            .stop_signal
            .take()
            .filter(|signal| !signal.is_empty())
            .or(self.stop_signal);
        spec.shell = spec.shell.take().or(self.shell);
        spec.healthcheck = merge_healthcheck(spec.healthcheck.take(), self.healthcheck);
    }
}

/// The image's variables, overridden; a bare `KEY` takes one away.
fn merge_env(image: Vec<String>, asked: &[String]) -> Vec<String> {
    let key = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    // The reference's order: what was asked for, then the rest of the image's.
    let mut merged: Vec<String> = asked.to_vec();
    merged.extend(
        image
            .into_iter()
            .filter(|entry| !asked.iter().any(|other| key(other) == key(entry))),
    );
    merged
}

fn merge_healthcheck(
    asked: Option<Healthcheck>,
    image: Option<ImageHealthcheck>,
) -> Option<Healthcheck> {
    let image = image.map(|image| Healthcheck {
        test: image.test,
        interval_ns: image.interval,
        timeout_ns: image.timeout,
        start_period_ns: image.start_period,
        start_interval_ns: image.start_interval,
        retries: image.retries,
    });
    let (Some(mut asked), Some(image)) = (asked.clone(), image.clone()) else {
        return asked.or(image);
    };
    let or = |value: &mut i64, default: i64| {
        if *value == 0 {
            *value = default;
        }
    };
    if asked.test.is_empty() {
        asked.test = image.test;
    }
    or(&mut asked.interval_ns, image.interval_ns);
    or(&mut asked.timeout_ns, image.timeout_ns);
    or(&mut asked.start_period_ns, image.start_period_ns);
    or(&mut asked.start_interval_ns, image.start_interval_ns);
    or(&mut asked.retries, image.retries);
    Some(asked)
}

/// `80/tcp`, `53/udp`, `80`.
fn parse_port(text: &str) -> Option<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some((number.parse().ok()?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(image: serde_json::Value, mut spec: ContainerSpec) -> ContainerSpec {
        serde_json::from_value::<ImageDefaults>(image)
            .unwrap()
            .merge_into(&mut spec);
        spec
    }

    #[test]
    fn commands_and_entrypoints() {
        let image = || serde_json::json!({"Entrypoint": ["/entry"], "Cmd": ["default"]});
        let list = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let plain = merged(image(), ContainerSpec::default());
        assert_eq!(
            (plain.entrypoint, plain.cmd),
            (list(&["/entry"]), list(&["default"]))
        );
        let arguments = merged(
            image(),
            ContainerSpec {
                cmd: list(&["other"]),
                ..ContainerSpec::default()
            },
        );
        assert_eq!(
            (arguments.entrypoint, arguments.cmd),
            (list(&["/entry"]), list(&["other"]))
        );
        let entry = merged(
            image(),
            ContainerSpec {
                entrypoint: list(&["/mine"]),
                ..ContainerSpec::default()
            },
        );
        assert_eq!((entry.entrypoint, entry.cmd), (list(&["/mine"]), None));
    }

    #[test]
    fn variables_labels_and_ports() {
        let spec = merged(
            serde_json::json!({"Env": ["A=1", "B=2"], "Labels": {"x": "image", "y": "image"}, "ExposedPorts": {"80/tcp": {}, "53/UDP": {}},
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5, "Retries": 3}}),
            ContainerSpec {
                env: vec!["B=3".into(), "A".into(), "C=4".into()],
                labels: [("x".to_owned(), "asked".to_owned())].into(),
                healthcheck: Some(Healthcheck {
                    interval_ns: 7,
                    ..Healthcheck::default()
                }),
                ..ContainerSpec::default()
            },
        );
        // A name alone takes the image's variable away, and stays on record.
        assert_eq!(spec.env, ["B=3", "A", "C=4"]);
        assert_eq!(
            (spec.labels["x"].as_str(), spec.labels["y"].as_str()),
            ("asked", "image")
        );
        assert_eq!(
            spec.exposed_ports,
            [(53, Protocol::Udp), (80, Protocol::Tcp)]
        );
        let health = spec.healthcheck.unwrap();
        assert_eq!(
            (health.test, health.interval_ns, health.retries),
            (vec!["CMD".to_owned(), "x".into()], 7, 3)
        );
    }
}
