//! What can't be meant, refused before anything is made; and what can't be done here, warned about.

use crate::{ContainerSpec, Error, Kind, Resources, RestartPolicy, Result};

const MEMORY_MIN_BYTES: i64 = 6 * 1024 * 1024;
const CPU_PERIOD_RANGE_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const CPU_QUOTA_MIN_US: i64 = 1_000;
const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::InvalidParameter, message))
}

/// Checks a container as asked for.
pub(crate) fn check(spec: &ContainerSpec) -> Result<()> {
    if spec.image.is_empty() {
        return invalid(
            "Config cannot be empty in order to create a container: an image must be named",
        );
    }
    if !spec.working_dir.is_empty() && !spec.working_dir.starts_with('/') {
        return invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            spec.working_dir
        ));
    }
    if let Some(name) = &spec.hostname
        && (name.len() > 63 || name.contains('/') || name.contains('\0'))
    {
        return invalid(format!("invalid hostname format: {name}"));
    }
    for entry in &spec.env {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return invalid(format!("invalid environment variable: {entry}"));
        }
    }
    if let Some(signal) = &spec.stop_signal {
        crate::signal::parse(signal)?;
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    if spec.network_mode == "host" && (spec.hostname.is_some() && spec.uts_mode == "host") {
        return invalid("conflicting options: hostname and the UTS mode");
    }
    if spec.network_mode.starts_with("container:")
        && (spec.hostname.as_ref().is_some_and(|h| !h.is_empty()))
    {
        return invalid("conflicting options: hostname and the network mode");
    }
    if let RestartPolicy::OnFailure { max_retries } = spec.restart
        && max_retries > i32::MAX as u32
    {
        return invalid("invalid restart policy: maximum retry count cannot be negative");
    }
    check_capabilities(spec)?;
    check_log_driver(spec)?;
    check_resources(&spec.resources)
}

fn check_capabilities(spec: &ContainerSpec) -> Result<()> {
    let named = |list: &'static str| move |name| (list, name);
    let added = spec.cap_add.iter().map(named("CapAdd"));
    for (list, name) in added.chain(spec.cap_drop.iter().map(named("CapDrop"))) {
        if crate::capabilities::known(name).is_none() {
            return invalid(format!(
                "invalid {list}: unknown capability: \"CAP_{}\"",
                name.to_uppercase().trim_start_matches("CAP_")
            ));
        }
    }
    Ok(())
}

fn check_log_driver(spec: &ContainerSpec) -> Result<()> {
    match spec.log.driver.as_str() {
        "json-file" | "none" | "" => {}
        other => {
            return invalid(format!(
                "logger: no log driver named '{other}' is registered"
            ));
        }
    }
    for (key, value) in &spec.log.options {
        match key.as_str() {
            "max-size" => {
                parse_size(value)?;
            }
            "max-file" if value.parse::<u32>().is_ok_and(|n| n > 0) => {}
            "max-file" => return invalid("max-file cannot be less than 1"),
            "compress" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "mode"
            | "max-buffer-size" => {}
            other => {
                return invalid(format!(
                    "unknown log opt '{other}' for json-file log driver"
                ));
            }
        }
    }
    Ok(())
}

/// `10m`, `512k`, `1g`, bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match lower[digits.len()..]
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => Some(1),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1 << 30),
        "t" => Some(1u64 << 40),
        _ => None,
    };
    let value = digits
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|value| *value >= 0.0);
    match (value, factor) {
        (Some(value), Some(factor)) => Ok((value * factor as f64) as u64),
        _ => invalid(format!("invalid size: '{text}'")),
    }
}

/// Checks limits as asked for, for a new container or an update.
pub(crate) fn check_resources(resources: &Resources) -> Result<()> {
    let memory = resources.memory_bytes.unwrap_or(0);
    let swap = resources.memory_swap_bytes.unwrap_or(0);
    if memory != 0 && memory < MEMORY_MIN_BYTES {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(reservation) = resources
        .memory_reservation_bytes
        .filter(|reservation| *reservation > 0)
    {
        if reservation < MEMORY_MIN_BYTES {
            return invalid("Minimum memory reservation allowed is 6MB");
        }
        if memory > 0 && memory < reservation {
            return invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            );
        }
    }
    if let Some(swappiness) = resources.memory_swappiness
        && swappiness > 100
    {
        return invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    check_cpu(resources)
}

fn check_cpu(resources: &Resources) -> Result<()> {
    let nano = resources.nano_cpus.unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if nano != 0 {
        if resources.cpu_period_us.unwrap_or(0) > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if resources.cpu_quota_us.unwrap_or(0) > 0 {
            return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        if nano < 0 || nano > cores as i64 * 1_000_000_000 {
            return invalid(format!(
                "Range of CPUs is from 0.01 to {cores}.00, as there are only {cores} CPUs available"
            ));
        }
    }
    if let Some(period) = resources.cpu_period_us.filter(|period| *period > 0)
        && !CPU_PERIOD_RANGE_US.contains(&period)
    {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if let Some(quota) = resources.cpu_quota_us.filter(|quota| *quota > 0)
        && quota < CPU_QUOTA_MIN_US
    {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares > 0)
        && !SHARES_RANGE.contains(&shares)
    {
        let (smaller, word) = if shares < 2 {
            ("minimum", 2)
        } else {
            ("maximum", 262_144)
        };
        return invalid(format!("The {smaller} allowed cpu-shares is {word}"));
    }
    check_cpu_list("--cpuset-cpus", &resources.cpuset_cpus, cores)?;
    check_cpu_list("--cpuset-mems", &resources.cpuset_mems, usize::MAX)
}

/// `0-2,4`.
fn check_cpu_list(flag: &str, list: &str, cores: usize) -> Result<()> {
    let malformed = || {
        Error::new(
            Kind::InvalidParameter,
            format!("Invalid value {list} for {flag}"),
        )
    };
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| malformed())?;
        let last: usize = last.trim().parse().map_err(|_| malformed())?;
        if first > last {
            return Err(malformed());
        }
        if last >= cores {
            return invalid(format!(
                "Requested CPUs are not available - requested {list}, available: 0-{}",
                cores.saturating_sub(1)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(resources: Resources) -> String {
        check_resources(&resources).unwrap_err().message
    }

    #[test]
    fn limits_have_bounds() {
        let memory = |bytes| Resources {
            memory_bytes: Some(bytes),
            ..Resources::default()
        };
        assert!(check_resources(&memory(MEMORY_MIN_BYTES)).is_ok());
        assert_eq!(
            refused(memory(4 << 20)),
            "Minimum memory limit allowed is 6MB"
        );
        let swap = Resources {
            memory_swap_bytes: Some(1 << 20),
            ..memory(64 << 20)
        };
        assert!(refused(swap).contains("larger than memory limit"));
        assert!(
            refused(Resources {
                cpuset_cpus: "0-999".into(),
                ..Resources::default()
            })
            .contains("not available")
        );
        assert!(
            refused(Resources {
                cpuset_cpus: "x".into(),
                ..Resources::default()
            })
            .contains("Invalid value x")
        );
        assert!(
            refused(Resources {
                nano_cpus: Some(i64::MAX),
                ..Resources::default()
            })
            .contains("Range of CPUs")
        );
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10m", 10 << 20),
            ("1.5k", 1536),
            ("7", 7),
            ("2gb", 2u64 << 30),
            ("1kib", 1024),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1k", "1x"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
