//! A seccomp profile given by a person: Docker's format, which adds conditions on capabilities and architectures to
//! that of the runtime specification.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Kind, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Vec<String>,
    arch_map: Vec<ArchMap>,
    flags: Option<Vec<String>>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    includes: Filter,
    excludes: Filter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: String,
}

const ARCHITECTURE: &str = "amd64";

impl Filter {
    fn has_architecture(&self) -> bool {
        self.arches.iter().any(|arch| arch == ARCHITECTURE)
    }
}

/// Reads a profile's text for a process with these capabilities.
pub(crate) fn parse(text: &str, capabilities: &[String]) -> Result<Value> {
    let profile: Profile = serde_json::from_str(text).map_err(|e| {
        Error::with(
            Kind::InvalidParameter,
            format!("opening seccomp profile failed: decoding it as JSON failed: {e}"),
            e,
        )
    })?;
    if profile.default_action.is_empty() {
        return Err(Error::new(
            Kind::InvalidParameter,
            "the seccomp profile has no defaultAction",
        ));
    }
    let mut architectures = profile.architectures;
    for map in profile
        .arch_map
        .into_iter()
        .filter(|map| map.architecture == "SCMP_ARCH_X86_64")
    {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures);
    }
    let applies = |rule: &Rule| {
        let includes = rule
            .includes
            .caps
            .iter()
            .all(|cap| capabilities.contains(cap))
            && (rule.includes.arches.is_empty() || rule.includes.has_architecture());
        // Every kernel that can run this program is newer than those that profiles tell apart.
        let excluded = rule
            .excludes
            .caps
            .iter()
            .any(|cap| capabilities.contains(cap))
            || rule.excludes.has_architecture()
            || !rule.excludes.min_kernel.is_empty();
        includes && !excluded
    };
    let rules: Vec<Value> = profile
        .syscalls
        .into_iter()
        .filter(applies)
        .map(into_rule)
        .collect();
    let mut value = json!({"defaultAction": profile.default_action, "architectures": architectures, "syscalls": rules});
    if let Some(errno) = profile.default_errno_ret {
        value["defaultErrnoRet"] = json!(errno);
    }
    if let Some(flags) = profile.flags {
        value["flags"] = json!(flags);
    }
    Ok(value)
}

fn into_rule(rule: Rule) -> Value {
    let mut names = rule.names;
    if !rule.name.is_empty() {
        names.push(rule.name);
    }
    let mut value =
        json!({"names": names, "action": rule.action, "args": rule.args.unwrap_or_default()});
    if let Some(errno) = rule.errno_ret {
        value["errnoRet"] = json!(errno);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_capabilities_are_decided() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                        {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
                        {"name":"read","action":"SCMP_ACT_ALLOW"}]}"#;
        let names = |capabilities: &[String]| -> Vec<String> {
            let value = parse(text, capabilities).unwrap();
            value["syscalls"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["names"][0].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&[]), ["clone", "read"]);
        assert_eq!(names(&["CAP_SYS_ADMIN".into()]), ["mount", "read"]);
        assert!(parse("{", &[]).is_err());
        assert!(parse("{}", &[]).is_err());
    }
}
