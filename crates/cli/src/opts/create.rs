//! The body of a create request from the flags of `create` and `run`.

use serde_json::{Map, Value, json};

use super::{devices, env, mounts, networks, ports, resources, security};
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::units;

/// What a create request says, in the parts that `run` looks at again.
#[derive(Debug)]
pub struct Wanted {
    /// `Config`, `HostConfig` and `NetworkingConfig` in one.
    pub body: Map<String, Value>,
    /// Whether the streams are connected: in, out, error.
    pub attach: [bool; 3],
    /// Image as named.
    pub image: String,
}

impl Wanted {
    /// Sets which streams are connected.
    pub fn set_attach(&mut self, attach: [bool; 3]) {
        self.attach = attach;
        for (name, on) in ["AttachStdin", "AttachStdout", "AttachStderr"]
            .iter()
            .zip(attach)
        {
            self.body.insert((*name).to_owned(), on.into());
        }
        let open = self
            .body
            .get("OpenStdin")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        self.body
            .insert("StdinOnce".into(), (open && attach[0]).into());
    }
}

/// Reads the flags.
pub fn wanted(matches: &Matches, proxies: Vec<(String, String)>) -> Result<Wanted, Failure> {
    let said = |why: String| Failure::Said(why);
    let streams: Vec<String> = matches
        .list("attach")
        .iter()
        .map(|s| s.to_ascii_lowercase())
        .collect();
    let has = |name: &str| streams.iter().any(|s| s == name);
    let default = streams.is_empty();
    let attach = [
        has("stdin") || matches.on("interactive"),
        default || has("stdout"),
        default || has("stderr"),
    ];
    check_modes(matches).map_err(said)?;
    let volumes = mounts::volumes(&matches.list("volume")).map_err(said)?;
    let ports = ports::collect(&matches.list("publish"), &matches.list("expose")).map_err(said)?;
    let mut environment = env::collect(&matches.list("env-file"), &matches.list("env"))?;
    for (name, value) in proxies {
        if !environment
            .iter()
            .any(|variable| variable.split('=').next() == Some(&name))
        {
            environment.push(format!("{name}={value}"));
        }
    }
    let mut body = config(matches, environment)?;
    body.insert("ExposedPorts".into(), Value::Object(ports.exposed));
    body.insert("Volumes".into(), Value::Object(volumes.unnamed));
    let (mode, endpoints) = networks::collect(matches).map_err(said)?;
    let host = host_config(matches, volumes.binds, ports.bindings, &mode).map_err(said)?;
    body.insert("HostConfig".into(), Value::Object(host));
    body.insert(
        "NetworkingConfig".into(),
        json!({"EndpointsConfig": endpoints}),
    );
    let image = matches.args.first().cloned().unwrap_or_default();
    let mut wanted = Wanted {
        body,
        attach,
        image,
    };
    wanted.set_attach(attach);
    Ok(wanted)
}

fn check_modes(matches: &Matches) -> Result<(), String> {
    if matches.changed("gpus") {
        return Err(
            "--gpus: Wharf passes no GPUs on; give single devices with --device instead".into(),
        );
    }
    if matches.on("use-api-socket") {
        return Err(
            "--use-api-socket: not offered; mount the daemon's socket with -v instead".into(),
        );
    }
    let mac = matches.text("mac-address");
    if !mac.is_empty() && !networks::is_mac(mac) {
        return Err(format!("{mac} is not a valid mac address"));
    }
    let swappiness = matches.number("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    let pid = matches.text("pid");
    if !(matches!(pid, "" | "host") || container(pid)) {
        return Err("--pid: invalid PID mode".into());
    }
    if !matches!(matches.text("uts"), "" | "host") {
        return Err("--uts: invalid UTS mode".into());
    }
    if !matches!(matches.text("userns"), "" | "host") {
        return Err("--userns: invalid USER mode".into());
    }
    if !matches!(matches.text("cgroupns"), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    if matches.on("rm") && !matches!(matches.text("restart"), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    Ok(())
}

fn config(matches: &Matches, environment: Vec<String>) -> Result<Map<String, Value>, Failure> {
    let said = |why: String| Failure::Said(why);
    let command: Vec<&String> = matches.args.iter().skip(1).collect();
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
    put("Hostname", matches.text("hostname").into());
    put("Domainname", matches.text("domainname").into());
    put("User", matches.text("user").into());
    put("Tty", matches.on("tty").into());
    put("OpenStdin", matches.on("interactive").into());
    put("Env", json!(environment));
    put(
        "Cmd",
        if command.is_empty() {
            Value::Null
        } else {
            json!(command)
        },
    );
    put(
        "Image",
        matches
            .args
            .first()
            .map(String::as_str)
            .unwrap_or_default()
            .into(),
    );
    put("WorkingDir", matches.text("workdir").into());
    put(
        "Entrypoint",
        matches
            .given("entrypoint")
            .map_or(Value::Null, |program| json!([program])),
    );
    put(
        "Labels",
        env::labels(&matches.list("label-file"), &matches.list("label"))?,
    );
    if let Some(signal) = matches.given("stop-signal") {
        put("StopSignal", signal.into());
    }
    if matches.changed("stop-timeout") {
        put("StopTimeout", matches.number("stop-timeout").into());
    }
    if let Some(mac) = matches.given("mac-address") {
        put("MacAddress", mac.into());
    }
    if let Some(health) = health(matches).map_err(said)? {
        put("Healthcheck", health);
    }
    Ok(map)
}

fn health(matches: &Matches) -> Result<Option<Value>, String> {
    let durations = [
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
    ];
    let nanoseconds: Vec<i64> = durations
        .iter()
        .map(|name| units::duration_ns(matches.text(name)).unwrap_or(0))
        .collect();
    let given = !matches.text("health-cmd").is_empty()
        || nanoseconds.iter().any(|ns| *ns != 0)
        || matches.number("health-retries") != 0;
    if matches.on("no-healthcheck") {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !given {
        return Ok(None);
    }
    for (name, ns) in ["interval", "timeout", "start-period", "start-interval"]
        .iter()
        .zip(&nanoseconds)
    {
        if *ns < 0 {
            return Err(format!("--health-{name} cannot be negative"));
        }
    }
    if matches.number("health-retries") < 0 {
        return Err("--health-retries cannot be negative".into());
    }
    let mut map = Map::new();
    if !matches.text("health-cmd").is_empty() {
        map.insert(
            "Test".into(),
            json!(["CMD-SHELL", matches.text("health-cmd")]),
        );
    }
    for (name, ns) in ["Interval", "Timeout", "StartPeriod", "StartInterval"]
        .iter()
        .zip(nanoseconds)
    {
        if ns != 0 {
            map.insert((*name).to_owned(), ns.into());
        }
    }
    if matches.number("health-retries") != 0 {
        map.insert("Retries".into(), matches.number("health-retries").into());
    }
    Ok(Some(Value::Object(map)))
}

fn host_config(
    matches: &Matches,
    binds: Vec<String>,
    bindings: Map<String, Value>,
    network_mode: &str,
) -> Result<Map<String, Value>, String> {
    let mut map = resources::collect(matches)?;
    let mut put = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
    put(
        "Binds",
        if binds.is_empty() {
            Value::Null
        } else {
            json!(binds)
        },
    );
    put("ContainerIDFile", matches.text("cidfile").into());
    put(
        "LogConfig",
        security::logging(matches.text("log-driver"), &matches.list("log-opt"))?,
    );
    put("NetworkMode", network_mode.into());
    put("PortBindings", Value::Object(bindings));
    put(
        "RestartPolicy",
        resources::restart_policy(matches.text("restart"))?,
    );
    put("VolumeDriver", matches.text("volume-driver").into());
    put("Dns", json!(matches.list("dns")));
    put(
        "DnsOptions",
        json!([matches.list("dns-option"), matches.list("dns-opt")].concat()),
    );
    put("DnsSearch", json!(matches.list("dns-search")));
    put("ExtraHosts", extra_hosts(matches));
    put("Cgroup", "".into());
    put("OomScoreAdj", matches.number("oom-score-adj").into());
    put(
        "StorageOpt",
        security::storage(&matches.list("storage-opt"))?,
    );
    put("Tmpfs", tmpfs(matches));
    put("ShmSize", resources::bytes(matches, "shm-size").into());
    put("Sysctls", env::pairs(&matches.list("sysctl")));
    put(
        "MemorySwappiness",
        matches.number("memory-swappiness").into(),
    );
    if matches.changed("init") {
        put("Init", matches.on("init").into());
    }
    put_plain(&mut map, matches);
    put_security(&mut map, matches)?;
    put_lists(&mut map, matches)?;
    Ok(map)
}

/// Flags whose value is passed on as it is.
fn put_plain(map: &mut Map<String, Value>, matches: &Matches) {
    for (name, flag) in [
        ("CgroupnsMode", "cgroupns"),
        ("IpcMode", "ipc"),
        ("PidMode", "pid"),
        ("UTSMode", "uts"),
        ("UsernsMode", "userns"),
        ("Runtime", "runtime"),
        ("Isolation", "isolation"),
    ] {
        map.insert(name.into(), matches.text(flag).into());
    }
    for (name, flag) in [
        ("AutoRemove", "rm"),
        ("Privileged", "privileged"),
        ("PublishAllPorts", "publish-all"),
        ("ReadonlyRootfs", "read-only"),
        ("OomKillDisable", "oom-kill-disable"),
    ] {
        map.insert(name.into(), matches.on(flag).into());
    }
    for (name, flag) in [
        ("VolumesFrom", "volumes-from"),
        ("CapAdd", "cap-add"),
        ("CapDrop", "cap-drop"),
        ("GroupAdd", "group-add"),
        ("Links", "link"),
        ("DeviceCgroupRules", "device-cgroup-rule"),
    ] {
        let items = matches.list(flag);
        map.insert(
            name.into(),
            if items.is_empty() {
                Value::Null
            } else {
                json!(items)
            },
        );
    }
}

fn put_security(map: &mut Map<String, Value>, matches: &Matches) -> Result<(), String> {
    let security = security::security(&matches.list("security-opt"))?;
    let options = if security.options.is_empty() {
        Value::Null
    } else {
        json!(security.options)
    };
    map.insert("SecurityOpt".into(), options);
    // Absent means the daemon's lists; empty ones mean that nothing is hidden.
    let paths = if security.all_paths {
        json!([])
    } else {
        Value::Null
    };
    map.insert("MaskedPaths".into(), paths.clone());
    map.insert("ReadonlyPaths".into(), paths);
    Ok(())
}

/// Reads one value as a structure of the API.
type Parser = fn(&str) -> Result<Value, String>;

/// Flags that are lists of structures.
fn put_lists(map: &mut Map<String, Value>, matches: &Matches) -> Result<(), String> {
    let parsers: [(&str, &str, Parser); 3] = [
        ("Devices", "device", devices::mapping),
        ("Ulimits", "ulimit", resources::ulimit),
        ("Mounts", "mount", mounts::parse),
    ];
    for (name, flag, parse) in parsers {
        let items: Result<Vec<Value>, String> = matches.list(flag).into_iter().map(parse).collect();
        map.insert(name.into(), Value::Array(items?));
    }
    Ok(())
}

fn extra_hosts(matches: &Matches) -> Value {
    let hosts: Vec<String> = matches
        .list("add-host")
        .iter()
        .map(|host| match (host.split_once('='), host.find(':')) {
            (Some((name, address)), colon) if colon.is_none_or(|colon| colon > name.len()) => {
                format!("{name}:{}", address.trim_matches(['[', ']']))
            }
            _ => (*host).to_owned(),
        })
        .collect();
    if hosts.is_empty() {
        Value::Null
    } else {
        json!(hosts)
    }
}

fn tmpfs(matches: &Matches) -> Value {
    let mut map = Map::new();
    for text in matches.list("tmpfs") {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        map.insert(path.to_owned(), options.into());
    }
    if map.is_empty() {
        Value::Null
    } else {
        Value::Object(map)
    }
}
