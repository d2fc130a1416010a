//! `ps`: the processes of a container, by the host's ps(1).

use super::args::{Flag, Parsed};
use super::state::Container;
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed, print};

pub const COMMAND: Command = Command {
    name: "ps",
    usage: "<container-id> [ps options]",
    about: "ps displays the processes running inside a container",
    flags: &[Flag::value("format", "\"table\" or \"json\" (table)").short("f")],
    words: (1, usize::MAX),
    in_order: true,
    run: ps,
};

fn ps(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    let pids = match container.cgroup() {
        Ok(group) => group
            .processes()
            .map_err(cgroup_failed("list the container's processes"))?,
        Err(_) => Vec::new(),
    };
    match parsed.get("format").unwrap_or("table") {
        "json" => {
            print(&format!("{}\n", serde_json::json!(pids)))?;
            return Ok(0);
        }
        "table" => {}
        _ => return Err(Failure::new("invalid format option")),
    }
    let options = match &parsed.words[1..] {
        [] => vec!["-ef".to_owned()],
        given => given.to_vec(),
    };
    let output = std::process::Command::new("ps").args(options).output();
    let output = output.map_err(failed("run ps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(format!("ps: {}: {said}", output.status)));
    }
    print(&rows_of(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(0)
}

/// The title and the lines of some processes.
fn rows_of(table: &str, pids: &[i32]) -> Outcome<String> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let mut text = format!("{title}\n");
    for line in lines.filter(ours) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::rows_of;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let table = "UID PID CMD\nroot 1 init\nroot 17 sleep\n";
        assert_eq!(
            rows_of(table, &[17, 4]).unwrap(),
            "UID PID CMD\nroot 17 sleep\n"
        );
        assert!(rows_of("CMD\nsleep\n", &[17]).is_err());
    }
}
