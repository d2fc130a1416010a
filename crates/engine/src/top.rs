//! Processes of a container, as ps shows them on the host.

use std::process::Command;

use crate::error_from::blocking;
use crate::{Engine, Error, Kind, Result, Top};

impl Engine {
    /// Processes, as `ps` with these arguments (default `-ef`) shows them on the host.
    pub async fn top(&self, container: &str, ps_args: &str) -> Result<Top> {
        let entry = self.inner.containers.find(container)?;
        entry.running()?;
        let args: Vec<String> = match ps_args.trim() {
            "" => vec!["-ef".into()],
            text => text.split_whitespace().map(str::to_owned).collect(),
        };
        if let Some(wrong) = args.iter().find(|arg| arg.chars().any(|c| c.is_control())) {
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("ps argument {wrong:?} holds control characters"),
            ));
        }
        let path = self.cgroup_path(&entry);
        let (members, output) = blocking(move || {
            let members = wharf_cgroup::open(&path)?.processes()?;
            let output = Command::new("ps").args(&args).output().map_err(|e| {
                Error::new(
                    Kind::Internal,
                    format!("error running ps: {e}; install the package procps"),
                )
            })?;
            Ok((members, output))
        })
        .await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("error running ps: {}", said.trim()),
            ));
        }
        parse(&String::from_utf8_lossy(&output.stdout), &members)
    }
}

/// Keeps the lines of the container's processes; the last column takes what is left of its line.
fn parse(output: &str, members: &[i32]) -> Result<Top> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let pid_column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| {
            Error::new(
                Kind::InvalidParameter,
                "couldn't find PID field in ps output: ask for it with -o pid",
            )
        })?;
    let processes = lines
        .map(|line| columns(line, titles.len()))
        .filter(|row| {
            row.get(pid_column)
                .and_then(|pid| pid.parse().ok())
                .is_some_and(|pid| members.contains(&pid))
        })
        .collect();
    Ok(Top { titles, processes })
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let mut row = Vec::with_capacity(count);
    let mut rest = line.trim_start();
    while row.len() + 1 < count {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        row.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    row.push(rest.trim_end().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let output = "UID   PID  PPID CMD\nroot  1    0    init\nroot  42   1    sh -c 'a  b'\n";
        let top = parse(output, &[42]).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(
            top.processes,
            [["root", "42", "1", "sh -c 'a  b'"].map(str::to_owned)]
        );
        assert!(parse("A B\n", &[]).unwrap_err().message.contains("PID"));
    }
}
