//! Help texts, laid out as Docker lays out its own.

use super::command::{Command, PROGRAM};
use super::flag::{Flag, Kind, NONE};

/// Columns that help texts are wrapped at.
const WIDTH: usize = 80;

/// The help of one command or group.
pub fn command(path: &str, command: &Command) -> String {
    let usage = command.usage.replace("\n\t", &format!("\n\t{path} "));
    let mut text = format!("Usage:  {path} {usage}\n\n{}\n", command.about);
    if !command.known_as.is_empty() {
        let names: Vec<String> = command
            .known_as
            .split(", ")
            .map(|name| format!("{PROGRAM} {name}"))
            .collect();
        text.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let flags: Vec<&Flag> = command
        .flags
        .iter()
        .flat_map(|group| group.iter())
        .filter(|f| !f.hidden)
        .collect();
    if !flags.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&flag_table(flags));
    }
    if !command.children.is_empty() {
        text.push_str("\nCommands:\n");
        text.push_str(&command_table(command.children));
        text.push_str(&format!(
            "\nRun '{path} COMMAND --help' for more information on a command.\n"
        ));
    }
    text
}

/// The help of the program.
pub fn program(
    common: &[&Command],
    groups: &[&Command],
    others: &[&Command],
    globals: &[Flag],
) -> String {
    format!(
        "Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nBuilds, ships and runs containers\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nServer Commands:\n  daemon      Run the daemon\n  registry    Run a registry\n  runtime     Run single containers, by the OCI runtime's command line\n\nGlobal Options:\n{}\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n",
        command_table(common),
        command_table(groups),
        command_table(others),
        flag_table(globals.iter().filter(|f| !f.hidden).collect()),
    )
}

fn command_table(commands: &[&Command]) -> String {
    let mut shown: Vec<&&Command> = commands.iter().filter(|c| !c.hidden).collect();
    if shown.first().is_some_and(|c| c.name != "run") {
        shown.sort_by_key(|c| c.name);
    }
    let width = shown
        .iter()
        .map(|c| c.name.len())
        .max()
        .unwrap_or(0)
        .max(10);
    shown
        .iter()
        .map(|c| format!("  {:width$}  {}\n", c.name, c.about))
        .collect()
}

fn flag_table(mut flags: Vec<&Flag>) -> String {
    flags.sort_by_key(|flag| flag.long);
    let left: Vec<String> = flags.iter().map(|flag| left_side(flag)).collect();
    let width = left.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, left) in flags.iter().zip(left) {
        let mut help = flag.help.to_owned();
        if !flag.default.is_empty() && flag.default != "false" {
            let quoted = flag.label == "string" || flag.kind == Kind::Many;
            let default = if quoted {
                format!("{:?}", flag.default)
            } else {
                flag.default.to_owned()
            };
            help.push_str(&format!(" (default {default})"));
        }
        let indent = " ".repeat(width);
        let lines = wrap(&help, WIDTH.saturating_sub(width).max(24));
        text.push_str(&format!(
            "{left:width$}{}\n",
            lines.join(&format!("\n{indent}"))
        ));
    }
    text
}

fn left_side(flag: &Flag) -> String {
    let short = if flag.short == NONE {
        "      ".to_owned()
    } else {
        format!("  -{}, ", flag.short)
    };
    let label = if flag.label.is_empty() {
        String::new()
    } else {
        format!(" {}", flag.label)
    };
    format!("{short}--{}{label}", flag.long)
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
            continue;
        }
        if !lines[last].is_empty() {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::flag::{number, switch, text};

    #[test]
    fn flags_are_sorted_aligned_and_wrapped() {
        let flags = [
            text(
                "zone",
                NONE,
                "A text that is so long that it has to go on in the line that follows",
            ),
            switch("all", 'a', "Everything"),
            number("limit", NONE, "At most so many").or("25"),
        ];
        assert_eq!(
            flag_table(flags.iter().collect()),
            "  -a, --all           Everything\n      --limit int     At most so many (default 25)\n      --zone string   A text that is so long that it has to go on in the line\n                      that follows\n"
        );
    }
}
