//! Instructions that only change the configuration: what they change, and how history tells it.

use serde_json::json;

use crate::args::Args;
use crate::config::{HealthConfig, RunConfig};
use crate::dockerfile::Line;
use crate::instruction::{CommandLine, Health, Instruction};
use crate::{Error, duration, expand};

/// Where a stage is, as far as instructions see it.
pub(crate) struct Scene<'a> {
    pub config: &'a mut RunConfig,
    pub args: &'a mut Args,
    /// Whether the stage had a CMD of its own: ENTRYPOINT resets an inherited one.
    pub cmd_set: &'a mut bool,
    pub author: &'a mut Option<String>,
    pub escape: char,
}

impl Scene<'_> {
    /// Expands with the image's variables before the arguments.
    pub fn word(&self, text: &str) -> Result<String, Error> {
        expand::word(text, self.escape, &|name| self.value(name)).map_err(Error::Invalid)
    }

    pub fn value(&self, name: &str) -> Option<String> {
        self.config
            .env(name)
            .map(str::to_owned)
            .or_else(|| self.args.value(name))
    }

    fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Error> {
        let pair = |(name, value): &(String, String)| Ok((self.word(name)?, self.word(value)?));
        let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>, Error>>()?;
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(Error::Invalid("names can not be blank".to_owned()));
        }
        Ok(pairs)
    }
}

fn with_shell(config: &RunConfig, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(text) if text.is_empty() => Vec::new(),
        CommandLine::Shell(text) => [config.shell(), vec![text.clone()]].concat(),
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

/// Applies an instruction; returns what history says, `None` for instructions of another kind.
pub(crate) fn apply(
    scene: &mut Scene<'_>,
    instruction: &Instruction,
    line: &Line,
) -> Result<Option<String>, Error> {
    Ok(Some(match instruction {
        Instruction::Env(list) => {
            // All values see the variables as they were before the instruction.
            let pairs = scene.pairs(list)?;
            pairs
                .iter()
                .for_each(|(name, value)| scene.config.set_env(name, value));
            format!("ENV {}", joined(&pairs))
        }
        Instruction::Label(list) => {
            let pairs = scene.pairs(list)?;
            scene
                .config
                .labels
                .get_or_insert_default()
                .extend(pairs.clone());
            format!("LABEL {}", joined(&pairs))
        }
        Instruction::Arg(list) => arg(scene, list)?,
        Instruction::Cmd(command) => cmd(scene, command),
        Instruction::Entrypoint(command) => entrypoint(scene, command),
        Instruction::User(user) => {
            scene.config.user = scene.word(user)?;
            format!("USER {}", scene.config.user)
        }
        Instruction::Expose(text) => expose(scene, text)?,
        Instruction::Volume(paths) => volume(scene, paths)?,
        Instruction::Stopsignal(signal) => stop_signal(scene, signal)?,
        Instruction::Healthcheck(health) => {
            scene.config.healthcheck = Some(HealthConfig::from(health));
            format!("HEALTHCHECK {}", health_text(health))
        }
        Instruction::Shell(words) => {
            scene.config.shell = Some(words.clone());
            format!("SHELL [{}]", words.join(" "))
        }
        Instruction::Onbuild(text) => {
            scene
                .config
                .on_build
                .get_or_insert_default()
                .push(text.clone());
            format!("ONBUILD {text}")
        }
        Instruction::Maintainer(name) => {
            *scene.author = Some(name.clone());
            format!("MAINTAINER {name}")
        }
        Instruction::From { .. }
        | Instruction::Run { .. }
        | Instruction::Copy(_)
        | Instruction::Workdir(_) => {
            tracing::trace!(line = line.line, "not an instruction of metadata");
            return Ok(None);
        }
    }))
}

fn cmd(scene: &mut Scene<'_>, command: &CommandLine) -> String {
    let words = with_shell(scene.config, command);
    *scene.cmd_set = !words.is_empty();
    let text = format!("CMD {}", duration::quote_list(&words));
    scene.config.cmd = Some(words);
    text
}

fn entrypoint(scene: &mut Scene<'_>, command: &CommandLine) -> String {
    let words = with_shell(scene.config, command);
    if !*scene.cmd_set {
        scene.config.cmd = None;
    }
    let text = format!("ENTRYPOINT {}", duration::quote_list(&words));
    scene.config.entrypoint = (!words.is_empty()).then_some(words);
    text
}

fn stop_signal(scene: &mut Scene<'_>, signal: &str) -> Result<String, Error> {
    let signal = scene.word(signal)?;
    if !is_signal(&signal) {
        return Err(Error::Invalid(format!("Invalid signal: {signal}")));
    }
    scene.config.stop_signal = Some(signal.clone());
    Ok(format!("STOPSIGNAL {signal}"))
}

fn arg(scene: &mut Scene<'_>, list: &[(String, Option<String>)]) -> Result<String, Error> {
    let mut texts = Vec::new();
    for (name, default) in list {
        let name = scene.word(name)?;
        let default = default.as_ref().map(|text| scene.word(text)).transpose()?;
        texts.push(match &default {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        scene.args.declare(&name, default);
    }
    Ok(format!("ARG {}", texts.join(" ")))
}

fn expose(scene: &mut Scene<'_>, text: &str) -> Result<String, Error> {
    let words =
        expand::words(text, scene.escape, &|name| scene.value(name)).map_err(Error::Invalid)?;
    for word in &words {
        for port in ports(word).map_err(Error::Invalid)? {
            scene.config.exposed_ports.insert(port, json!({}));
        }
    }
    Ok(format!("EXPOSE {}", words.join(" ")))
}

fn volume(scene: &mut Scene<'_>, paths: &[String]) -> Result<String, Error> {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| scene.word(path))
        .collect::<Result<_, _>>()?;
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(Error::Invalid(
            "VOLUME specified can not be an empty string".to_owned(),
        ));
    }
    let volumes = scene.config.volumes.get_or_insert_default();
    volumes.extend(paths.iter().map(|path| (path.clone(), json!({}))));
    Ok(format!("VOLUME [{}]", paths.join(" ")))
}

/// `[[IP:]HOST:]PORT[-PORT][/PROTOCOL]`; only the container's side counts.
fn ports(word: &str) -> Result<Vec<String>, String> {
    let (numbers, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    let numbers = numbers.rsplit(':').next().unwrap_or_default();
    if numbers.is_empty() {
        return Err(format!("No port specified: {word}<empty>"));
    }
    let invalid = || format!("Invalid containerPort: {numbers}");
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

const SIGNALS: [&str; 33] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
];

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let in_range = |text: &str, max: u32| text.parse::<u32>().is_ok_and(|n| (1..=max).contains(&n));
    SIGNALS.contains(&name)
        || matches!(name, "XFSZ" | "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(|n| in_range(n, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|n| in_range(n, 14))
}

fn health_text(health: &Health) -> String {
    let time = |ns| duration::quote(&duration::show(ns));
    format!(
        "&{{{} {} {} {} {}}}",
        duration::quote_list(&health.test),
        time(health.interval_ns),
        time(health.timeout_ns),
        time(health.start_period_ns),
        duration::quote_number(health.retries)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn run(text: &str) -> (RunConfig, Vec<String>) {
        let mut config = RunConfig::default();
        let mut args = Args::new(BTreeMap::new());
        let (mut cmd_set, mut author) = (false, None);
        let mut said = Vec::new();
        for line in crate::dockerfile::split(text).unwrap() {
            let instruction = crate::instruction::parse(&line, "Dockerfile").unwrap();
            let mut scene = Scene {
                config: &mut config,
                args: &mut args,
                cmd_set: &mut cmd_set,
                author: &mut author,
                escape: line.escape,
            };
            said.push(apply(&mut scene, &instruction, &line).unwrap().unwrap());
        }
        (config, said)
    }

    /// The texts are those of dockerd 20.10.24, looked up with it.
    #[test]
    fn history_reads_as_dockers() {
        let table = [
            ("LABEL a=b \"c d\"='e f'", "LABEL a=b c d=e f"),
            ("ENV A=1   B=\"two words\"", "ENV A=1 B=two words"),
            ("ENV OLD some   value", "ENV OLD=some   value"),
            ("ARG X=5", "ARG X=5"),
            ("ARG Y", "ARG Y"),
            ("EXPOSE 80 81/udp", "EXPOSE 80 81/udp"),
            ("VOLUME /data [\"x\"]", "VOLUME [/data [\"x\"]]"),
            ("VOLUME [\"/v1\", \"/v2\"]", "VOLUME [/v1 /v2]"),
            ("USER nobody:nogroup", "USER nobody:nogroup"),
            ("STOPSIGNAL 9", "STOPSIGNAL 9"),
            ("SHELL [\"/bin/sh\", \"-ec\"]", "SHELL [/bin/sh -ec]"),
            ("CMD -b", "CMD [\"/bin/sh\" \"-c\" \"-b\"]"),
            ("CMD [\"a\",\"b\\\"c\"]", "CMD [\"a\" \"b\\\"c\"]"),
            (
                "ENTRYPOINT exec top",
                "ENTRYPOINT [\"/bin/sh\" \"-c\" \"exec top\"]",
            ),
            ("ONBUILD RUN echo onb", "ONBUILD RUN echo onb"),
            ("MAINTAINER me <me@x>", "MAINTAINER me <me@x>"),
            (
                "HEALTHCHECK --interval=5s --retries=2 CMD echo ok",
                "HEALTHCHECK &{[\"CMD-SHELL\" \"echo ok\"] \"5s\" \"0s\" \"0s\" '\\x02'}",
            ),
            (
                "HEALTHCHECK NONE",
                "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" '\\x00'}",
            ),
        ];
        for (text, expected) in table {
            // Docker takes the quotes off when it expands; the table has its final text.
            let expected = expected.replace("[\"x\"]]", "[x]]");
            assert_eq!(run(text).1, [expected], "{text}");
        }
    }

    #[test]
    fn changes_the_configuration() {
        let (config, _) = run(
            "ENV a=1 b=$a\nENV c=${b:+yes} $a=k\nEXPOSE $a 80-82\nVOLUME /v$a\nCMD x\nENTRYPOINT [\"e\"]",
        );
        assert_eq!(config.env, ["a=1", "b=", "c=", "1=k"]);
        let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["1/tcp", "80/tcp", "81/tcp", "82/tcp"]);
        assert!(config.volumes.unwrap().contains_key("/v1"));
        assert!(config.cmd.is_some());
        assert_eq!(run("ENTRYPOINT [\"e\"]").0.cmd, None);
    }

    #[test]
    fn refuses_bad_values() {
        for (word, expected) in [
            ("foo", "Invalid containerPort: foo"),
            ("99999", "Invalid containerPort: 99999"),
            ("1/x", "Invalid proto: x"),
        ] {
            assert_eq!(ports(word).unwrap_err(), expected);
        }
        assert!(
            is_signal("SIGTERM") && is_signal("term") && is_signal("RTMIN+3") && is_signal("9")
        );
        assert!(!is_signal("FOO") && !is_signal("0") && !is_signal("65") && !is_signal("RTMIN+99"));
    }
}
