//! Every command with its words, flags and help.

mod cluster;
mod container;
mod image;
mod other;

use crate::line::command::Command;
use crate::line::flag::{Flag, NONE, list, switch, text};

/// Flags that stand before the command.
pub const GLOBAL: &[Flag] = &[
    text("config", NONE, "Folder of the client's configuration"),
    text("context", 'c', "Accepted when it is 'default'").hide(),
    switch("debug", 'D', "Say more about what is done"),
    list(
        "host",
        'H',
        "Socket of the daemon (unix:///path or tcp://host:port)",
    ),
    text(
        "log-level",
        'l',
        "How much to say: debug, info, warn, error, fatal",
    )
    .or("info"),
    switch("tls", NONE, "Talk TLS to the daemon").hide(),
    switch(
        "tlsverify",
        NONE,
        "Talk TLS to the daemon and check who it is",
    )
    .hide(),
    switch("version", 'v', "Print the version and end"),
];

/// Commands shown first.
pub const COMMON: &[&Command] = &[
    &container::RUN,
    &container::EXEC,
    &container::PS,
    &image::BUILD,
    &image::PULL,
    &image::PUSH,
    &image::IMAGES,
    &other::LOGIN,
    &other::LOGOUT,
    &other::SEARCH,
    &other::VERSION,
    &other::INFO,
];

/// Groups.
pub const GROUPS: &[&Command] = &[
    &image::BUILDER,
    &container::CONTAINER,
    &image::IMAGE,
    &other::NETWORK,
    &other::SYSTEM,
    &other::VOLUME,
];

/// The rest.
pub const OTHERS: &[&Command] = &[
    &container::ATTACH,
    &container::COMMIT,
    &container::CP,
    &container::CREATE,
    &container::DIFF,
    &other::EVENTS,
    &container::EXPORT,
    &image::HISTORY,
    &image::IMPORT,
    &other::INSPECT,
    &container::KILL,
    &image::LOAD,
    &container::LOGS,
    &container::PAUSE,
    &container::PORT,
    &container::RENAME,
    &container::RESTART,
    &container::RM,
    &image::RMI,
    &image::SAVE,
    &container::START,
    &container::STATS,
    &container::STOP,
    &image::TAG,
    &container::TOP,
    &container::UNPAUSE,
    &container::UPDATE,
    &container::WAIT,
    &cluster::WHY,
];

/// All of them.
pub fn all() -> Vec<&'static Command> {
    [COMMON, GROUPS, OTHERS].concat()
}

/// `--format` of lists.
pub(crate) const LIST_FORMAT: Flag = text(
    "format",
    NONE,
    "How to show it: 'table', 'table TEMPLATE', 'json' or a Go template such as '{{.ID}}'",
);

/// `--format` of objects.
pub(crate) const OBJECT_FORMAT: Flag = text(
    "format",
    'f',
    "How to show it: 'json' or a Go template such as '{{.ID}}'",
);

/// `--no-trunc`.
pub(crate) const NO_TRUNC: Flag = switch("no-trunc", NONE, "Show everything in full");

/// `--quiet` of lists.
pub(crate) const IDS_ONLY: Flag = switch("quiet", 'q', "Show only IDs");

/// `--force` of prune.
pub(crate) const NO_QUESTION: Flag = switch("force", 'f', "Don't ask");

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(commands: &[&'static Command], path: &str, seen: &mut usize) {
        for command in commands {
            let path = format!("{path} {}", command.name);
            *seen += 1;
            assert_eq!(command.run.is_some(), command.children.is_empty(), "{path}");
            assert!(
                !command.about.is_empty() && !command.about.ends_with('.'),
                "{path}"
            );
            let flags: Vec<&Flag> = command
                .flags
                .iter()
                .flat_map(|group| group.iter())
                .collect();
            for flag in &flags {
                assert!(!flag.help.is_empty(), "{path} --{}", flag.long);
                assert_eq!(
                    flags.iter().filter(|f| f.long == flag.long).count(),
                    1,
                    "{path} --{}",
                    flag.long
                );
                let same = flags
                    .iter()
                    .filter(|f| f.short == flag.short && f.short != NONE)
                    .count();
                assert!(same <= 1, "{path} -{}", flag.short);
            }
            walk(command.children, &path, seen);
        }
    }

    #[test]
    fn every_command_is_whole() {
        let mut seen = 0;
        walk(&all(), "wharf", &mut seen);
        assert!(seen > 80, "{seen}");
    }
}
