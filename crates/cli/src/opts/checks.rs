//! Checks of single values while the line is parsed, in Docker's words.

use std::net::IpAddr;

use crate::units;

type Checked = Result<(), String>;

/// A size in bytes.
pub fn size(value: &str) -> Checked {
    units::ram_bytes(value)
        .map(drop)
        .ok_or_else(|| format!("invalid size: '{value}'"))
}

/// A size in bytes, or -1 for no limit.
pub fn swap_size(value: &str) -> Checked {
    if value == "-1" { Ok(()) } else { size(value) }
}

/// A duration.
pub fn duration(value: &str) -> Checked {
    units::duration_ns(value).map(drop)
}

/// A number of processors in billionths.
pub fn nano_cpus(value: &str) -> Result<i64, String> {
    let number = match value.split_once('/') {
        Some((a, b)) => a
            .trim()
            .parse::<f64>()
            .ok()
            .zip(b.trim().parse::<f64>().ok())
            .map(|(a, b)| a / b),
        None => value.parse::<f64>().ok(),
    };
    let number = number
        .filter(|n| n.is_finite())
        .ok_or_else(|| format!("failed to parse {value} as a rational number"))?;
    let nano = number * 1e9;
    if (nano - nano.round()).abs() > 1e-3 {
        return Err("value is too precise".into());
    }
    Ok(nano.round() as i64)
}

/// A number of processors.
pub fn cpus(value: &str) -> Checked {
    nano_cpus(value).map(drop)
}

/// One of the three streams.
pub fn attach(value: &str) -> Checked {
    match value.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// `NAME[=value]`.
pub fn env(value: &str) -> Checked {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid environment variable: {value}"));
    }
    Ok(())
}

/// `name[=value]`.
pub fn label(value: &str) -> Checked {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid label format: {value:?}"));
    }
    if value
        .split('=')
        .next()
        .is_some_and(|name| name.chars().any(char::is_whitespace))
    {
        return Err(format!("label '{value}' contains whitespaces"));
    }
    Ok(())
}

/// `host:address`.
pub fn extra_host(value: &str) -> Checked {
    let split = value.split_once('=').or_else(|| value.split_once(':'));
    let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
        return Err(format!("bad format for add-host: \"{value}\""));
    };
    let _ = name;
    if address == "host-gateway" || address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address in add-host: \"{address}\""))
}

/// An address.
pub fn ip(value: &str) -> Checked {
    match value.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {value}")),
    }
}

/// A domain to search names in.
pub fn dns_search(value: &str) -> Checked {
    let value = value.trim();
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    let fits =
        value == "." || value.len() < 255 && value.trim_end_matches('.').split('.').all(label_ok);
    if fits {
        Ok(())
    } else {
        Err(format!("{value} is not a valid domain"))
    }
}

/// `name:alias`.
pub fn link(value: &str) -> Checked {
    if value.is_empty() {
        return Err("empty string specified for links".into());
    }
    if value.split(':').count() > 2 {
        return Err(format!("bad format for links: {value}"));
    }
    Ok(())
}

/// A kernel setting that belongs to a namespace.
pub fn sysctl(value: &str) -> Checked {
    const EXACT: [&str; 7] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let refused = || format!("sysctl '{value}' is not allowed");
    let (name, _) = value.split_once('=').ok_or_else(refused)?;
    let allowed = EXACT.contains(&name)
        || name == "kernel.shm_rmid_forced"
        || ["net.", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if allowed { Ok(()) } else { Err(refused()) }
}

/// `path:weight`.
pub fn weight_device(value: &str) -> Checked {
    let (path, weight) = value
        .split_once(':')
        .ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    let weight = weight
        .parse::<u16>()
        .map_err(|_| format!("invalid weight for device: {value}"))?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {value}"));
    }
    Ok(())
}

/// `path:bytes per second`.
pub fn throttle_bps(value: &str) -> Checked {
    let (_, rate) = device_and_rate(value)?;
    units::ram_bytes(rate).map(drop).ok_or_else(|| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })
}

/// `path:operations per second`.
pub fn throttle_iops(value: &str) -> Checked {
    let (_, rate) = device_and_rate(value)?;
    rate.parse::<u64>().map(drop).map_err(|_| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })
}

fn device_and_rate(value: &str) -> Result<(&str, &str), String> {
    let (path, rate) = value
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    Ok((path, rate))
}

/// `a *:* rwm`.
pub fn device_rule(value: &str) -> Checked {
    let words: Vec<&str> = value.split(' ').collect();
    let number =
        |text: &str| text == "*" || !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fits = match words.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{value}'"))
    }
}

/// `name=soft[:hard]`.
pub fn ulimit(value: &str) -> Checked {
    super::resources::ulimit(value).map(drop)
}

/// `type=…,source=…,target=…`.
pub fn mount(value: &str) -> Checked {
    super::mounts::parse(value).map(drop)
}

/// A network's name, or `name=…,alias=…`.
pub fn network(value: &str) -> Checked {
    super::networks::parse(value).map(drop)
}

/// An image's name with an optional tag.
pub fn tag(value: &str) -> Checked {
    crate::image::reference::Reference::parse(value).map(drop)
}

/// `name=value` settings of a driver.
pub fn any(_value: &str) -> Checked {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_refusals() {
        for (result, said) in [
            (size("xyz"), "invalid size: 'xyz'"),
            (cpus("abc"), "failed to parse abc as a rational number"),
            (attach("foo"), "valid streams are STDIN, STDOUT and STDERR"),
            (extra_host("foo"), "bad format for add-host: \"foo\""),
            (ip("foo"), "IP address is not correctly formatted: foo"),
            (sysctl("foo"), "sysctl 'foo' is not allowed"),
            (weight_device("foo"), "bad format: foo"),
            (throttle_bps("foo"), "bad format: foo"),
            (device_rule("foo"), "invalid device cgroup format 'foo'"),
            (env(""), "invalid environment variable: "),
        ] {
            assert_eq!(result, Err(said.to_owned()));
        }
    }

    #[test]
    fn what_is_right_passes() {
        assert!(
            extra_host("db:10.0.0.1").is_ok()
                && extra_host("db=host-gateway").is_ok()
                && extra_host("v6:::1").is_ok()
        );
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok());
        assert!(device_rule("c 42:* rmw").is_ok());
        assert!(throttle_bps("/dev/sda:1mb").is_ok());
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
    }
}
