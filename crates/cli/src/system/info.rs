//! `info`.

use std::rc::Rc;

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::template::Template;
use crate::template::json;
use crate::template::value::{Field, Record, Value};
use crate::units;
use crate::wire::Request;

/// `info`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let format = matches.text("format").to_owned();
    let answer = session
        .client()
        .and_then(|client| client.call(Request::get("/info")));
    let (info, failure) = match answer {
        Ok(reply) => (Value::parse_json(&reply.body).map_err(Failure::Said)?, None),
        Err(failure) => (Value::Nil, Some(failure)),
    };
    if !format.is_empty() {
        if let Some(failure) = failure {
            return Err(failure);
        }
        session.line(&formatted(&format, &info)?)?;
        return Ok(0);
    }
    let mut text = format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        session.debug
    );
    if failure.is_none() {
        text.push_str(&server(&info));
    }
    session.out(text.as_bytes())?;
    for warning in info.items_at("Warnings").iter().filter_map(Value::as_text) {
        session.warn(warning);
    }
    match failure {
        Some(failure) => {
            session.warn(&failure.to_string());
            Err(Failure::said("errors pretty printing info"))
        }
        None => Ok(0),
    }
}

fn formatted(format: &str, info: &Value) -> Result<String, Failure> {
    let format = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let template = Template::parse(format).map_err(|why| Failure::Exit {
        code: 64,
        text: format!("template parsing error: {why}"),
    })?;
    if format.trim() == "{{json .}}" {
        return Ok(json::in_order(info));
    }
    let mut row = Record {
        type_name: "system.dockerInfo".into(),
        ..Record::default()
    };
    for (key, value) in info.pairs() {
        let name: Rc<str> = Rc::from(key.as_str());
        row.fields.push(Field {
            name: name.clone(),
            json: name,
            omit_empty: false,
            value: value.clone(),
        });
    }
    template
        .render(&Value::Record(Rc::new(row)))
        .map_err(Failure::Said)
}

/// Lines under construction; empty values are left out.
struct Lines(String);

impl Lines {
    fn put(&mut self, level: usize, name: &str, value: impl std::fmt::Display) {
        self.0
            .push_str(&format!("{}{name}: {value}\n", " ".repeat(level)));
    }

    fn some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.put(1, name, value);
        }
    }
}

fn words(value: Option<&Value>) -> String {
    let items: Vec<&str> = value
        .map(Value::items)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_text)
        .collect();
    items.join(" ")
}

fn server(info: &Value) -> String {
    let mut lines = Lines(String::new());
    lines.put(1, "Containers", info.int_at("Containers"));
    lines.put(2, "Running", info.int_at("ContainersRunning"));
    lines.put(2, "Paused", info.int_at("ContainersPaused"));
    lines.put(2, "Stopped", info.int_at("ContainersStopped"));
    lines.put(1, "Images", info.int_at("Images"));
    lines.some("Server Version", info.str_at("ServerVersion"));
    lines.some("Storage Driver", info.str_at("Driver"));
    for pair in info.items_at("DriverStatus") {
        if let [name, value] = pair.items() {
            lines.put(
                2,
                name.as_text().unwrap_or_default(),
                value.as_text().unwrap_or_default(),
            );
        }
    }
    lines.some("Logging Driver", info.str_at("LoggingDriver"));
    lines.some("Cgroup Driver", info.str_at("CgroupDriver"));
    lines.some("Cgroup Version", info.str_at("CgroupVersion"));
    let plugins = info.get("Plugins").cloned().unwrap_or_default();
    lines.0.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let names = words(plugins.get(kind));
        if kind != "Authorization" || !names.is_empty() {
            lines.put(2, kind, names);
        }
    }
    swarm_and_runtimes(&mut lines, info);
    security(&mut lines, info);
    machine(&mut lines, info);
    registries(&mut lines, info);
    lines.put(
        1,
        "Live Restore Enabled",
        info.bool_at("LiveRestoreEnabled"),
    );
    lines.some("Product License", info.str_at("ProductLicense"));
    lines.0.push('\n');
    lines.0
}

fn swarm_and_runtimes(lines: &mut Lines, info: &Value) {
    let swarm = info
        .get("Swarm")
        .map(|swarm| swarm.str_at("LocalNodeState").to_owned())
        .unwrap_or_default();
    lines.put(
        1,
        "Swarm",
        if swarm.is_empty() { "inactive" } else { &swarm },
    );
    let runtimes = info.get("Runtimes").cloned().unwrap_or_default();
    let mut names: Vec<&str> = runtimes
        .pairs()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    if !names.is_empty() {
        lines.put(1, "Runtimes", names.join(" "));
        lines.put(1, "Default Runtime", info.str_at("DefaultRuntime"));
    }
    if info.str_at("OSType") == "linux" {
        lines.some("Init Binary", info.str_at("InitBinary"));
        for (name, key) in [
            ("containerd version", "ContainerdCommit"),
            ("runc version", "RuncCommit"),
            ("init version", "InitCommit"),
        ] {
            if let Some(commit) = info.get(key) {
                lines.put(1, name, commit.str_at("ID"));
            }
        }
    }
}

fn security(lines: &mut Lines, info: &Value) {
    let options = info.items_at("SecurityOptions");
    if options.is_empty() {
        return;
    }
    lines.0.push_str(" Security Options:\n");
    for option in options.iter().filter_map(Value::as_text) {
        for part in option.split(',') {
            match part.split_once('=') {
                Some(("name", name)) => lines.0.push_str(&format!("  {name}\n")),
                Some(("profile", profile)) => lines.put(3, "Profile", profile),
                Some((key, value)) => lines.put(3, key, value),
                None => lines.0.push_str(&format!("  {part}\n")),
            }
        }
    }
}

fn machine(lines: &mut Lines, info: &Value) {
    lines.some("Kernel Version", info.str_at("KernelVersion"));
    lines.some("Operating System", info.str_at("OperatingSystem"));
    lines.some("OSType", info.str_at("OSType"));
    lines.some("Architecture", info.str_at("Architecture"));
    lines.put(1, "CPUs", info.int_at("NCPU"));
    lines.put(
        1,
        "Total Memory",
        units::bytes_size(info.int_at("MemTotal") as f64),
    );
    lines.some("Name", info.str_at("Name"));
    lines.some("ID", info.str_at("ID"));
    lines.put(1, "Docker Root Dir", info.str_at("DockerRootDir"));
    lines.put(1, "Debug Mode", info.bool_at("Debug"));
    if info.bool_at("Debug") {
        lines.put(2, "File Descriptors", info.int_at("NFd"));
        lines.put(2, "Goroutines", info.int_at("NGoroutines"));
        lines.put(2, "System Time", info.str_at("SystemTime"));
        lines.put(2, "EventsListeners", info.int_at("NEventsListener"));
    }
    lines.some("HTTP Proxy", info.str_at("HttpProxy"));
    lines.some("HTTPS Proxy", info.str_at("HttpsProxy"));
    lines.some("No Proxy", info.str_at("NoProxy"));
    let labels = info.items_at("Labels");
    if !labels.is_empty() {
        lines.0.push_str(" Labels:\n");
        for label in labels.iter().filter_map(Value::as_text) {
            lines.0.push_str(&format!("  {label}\n"));
        }
    }
    lines.put(1, "Experimental", info.bool_at("ExperimentalBuild"));
}

fn registries(lines: &mut Lines, info: &Value) {
    let config = info.get("RegistryConfig").cloned().unwrap_or_default();
    let indexes = config.get("IndexConfigs").cloned().unwrap_or_default();
    let insecure: Vec<&str> = indexes
        .pairs()
        .iter()
        .filter(|(_, index)| !index.bool_at("Secure"))
        .map(|(name, _)| name.as_str())
        .chain(
            config
                .items_at("InsecureRegistryCIDRs")
                .iter()
                .filter_map(Value::as_text),
        )
        .collect();
    if !insecure.is_empty() {
        lines.0.push_str(" Insecure Registries:\n");
        for name in insecure {
            lines.0.push_str(&format!("  {name}\n"));
        }
    }
    let mirrors = config.items_at("Mirrors");
    if !mirrors.is_empty() {
        lines.0.push_str(" Registry Mirrors:\n");
        for mirror in mirrors.iter().filter_map(Value::as_text) {
            lines.0.push_str(&format!("  {mirror}\n"));
        }
    }
}
