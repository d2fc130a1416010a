//! Build arguments: what was given, what a Dockerfile declares, and which of it a step sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::RunConfig;

/// Known without a declaration; not part of history or cache keys unless declared.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments as one point of one stage sees them.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    given: Arc<BTreeMap<String, Option<String>>>,
    /// Declared before the first FROM.
    global: Arc<BTreeMap<String, Option<String>>>,
    declared: BTreeMap<String, Option<String>>,
    consumed: Arc<Mutex<BTreeSet<String>>>,
}

impl Args {
    pub fn new(given: BTreeMap<String, Option<String>>) -> Args {
        Args {
            given: Arc::new(given),
            global: Arc::default(),
            declared: BTreeMap::new(),
            consumed: Arc::default(),
        }
    }

    /// Declares one before the first FROM.
    pub fn declare_global(&mut self, name: &str, default: Option<String>) {
        self.consume(name);
        let value = self.given_value(name).or(default);
        Arc::make_mut(&mut self.global).insert(name.to_owned(), value);
    }

    /// Declares one in a stage. Without a default, the one from before the first FROM counts.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        self.consume(name);
        let global = || self.global.get(name).cloned().flatten();
        let value = self.given_value(name).or_else(|| default.or_else(global));
        self.declared.insert(name.to_owned(), value);
    }

    /// Nothing declared: the start of a stage.
    pub fn fresh(&self) -> Args {
        Args {
            declared: BTreeMap::new(),
            ..self.clone()
        }
    }

    fn consume(&self, name: &str) {
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        consumed.insert(name.to_owned());
    }

    fn given_value(&self, name: &str) -> Option<String> {
        self.given.get(name).cloned().flatten()
    }

    /// Value for FROM.
    pub fn global(&self, name: &str) -> Option<String> {
        self.global.get(name).cloned().flatten().or_else(|| {
            PREDEFINED
                .contains(&name)
                .then(|| self.given_value(name))
                .flatten()
        })
    }

    /// Value in a stage.
    pub fn value(&self, name: &str) -> Option<String> {
        match self.declared.get(name) {
            Some(value) => value.clone(),
            None if PREDEFINED.contains(&name) => self.given_value(name),
            None => None,
        }
    }

    /// What RUN gets added to its environment, `NAME=VALUE`; variables of the image come before arguments.
    pub fn environment(&self, config: &RunConfig) -> Vec<String> {
        let predefined = PREDEFINED
            .iter()
            .filter(|name| !self.declared.contains_key(**name));
        let predefined =
            predefined.filter_map(|name| Some(((*name).to_owned(), self.given_value(name)?)));
        let mut all: BTreeMap<String, String> = predefined.collect();
        all.extend(
            self.declared
                .iter()
                .filter_map(|(k, v)| Some((k.clone(), v.clone()?))),
        );
        let all = all
            .into_iter()
            .filter(|(name, _)| config.env(name).is_none());
        all.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The part of it that a step's identity includes.
    pub fn in_effect(&self, config: &RunConfig) -> Vec<String> {
        let declared = |entry: &String| {
            entry
                .split('=')
                .next()
                .is_some_and(|name| self.declared.contains_key(name))
        };
        self.environment(config)
            .into_iter()
            .filter(declared)
            .collect()
    }

    /// Given, but never declared.
    pub fn unused(&self) -> Vec<String> {
        let consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self
            .given
            .keys()
            .filter(|name| !consumed.contains(*name) && !PREDEFINED.contains(&name.as_str()));
        unused.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_given_and_predefined() {
        let given = [
            ("A", Some("given")),
            ("N", Some("no")),
            ("T", None),
            ("HTTP_PROXY", Some("p")),
        ];
        let given = given.map(|(k, v)| (k.to_owned(), v.map(str::to_owned)));
        let mut args = Args::new(given.into());
        args.declare_global("G", Some("g".into()));
        assert_eq!(args.global("G").as_deref(), Some("g"));
        assert_eq!(args.value("G"), None);
        assert_eq!(args.value("A"), None);
        args.declare("A", Some("default".into()));
        args.declare("G", None);
        args.declare("T", Some("t".into()));
        args.declare("U", None);
        assert_eq!(args.value("A").as_deref(), Some("given"));
        assert_eq!(args.value("G").as_deref(), Some("g"));
        assert_eq!(args.value("T").as_deref(), Some("t"));
        let mut config = RunConfig::default();
        config.set_env("T", "from the image");
        assert_eq!(
            args.environment(&config),
            ["A=given", "G=g", "HTTP_PROXY=p"]
        );
        assert_eq!(args.in_effect(&config), ["A=given", "G=g"]);
        assert_eq!(args.unused(), ["N"]);
        assert_eq!(args.fresh().value("A"), None);
    }
}
