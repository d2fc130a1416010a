//! Commands on containers.

use super::{IDS_ONLY, LIST_FORMAT, NO_QUESTION, NO_TRUNC, OBJECT_FORMAT};
use crate::container::{attach, commit, copy, create, exec, lifecycle, list, look, run, stats};
use crate::line::command::{Command, Words};
use crate::line::flag::{
    Flag, NONE, check_uint16, checked, checked_list, filter, list as many, number, switch, text,
};
use crate::opts::checks;
use crate::opts::create_flags;

const DETACH_KEYS: Flag = text(
    "detach-keys",
    NONE,
    "Keys that leave the container running (ctrl-p,ctrl-q)",
);
const SIG_PROXY: Flag =
    switch("sig-proxy", NONE, "Pass received signals on to the process").or("true");
const SIGNAL: Flag = text("signal", 's', "Signal to send");
const TIMEOUT: Flag = number(
    "timeout",
    't',
    "Seconds to wait before killing; -1 for ever",
);
const TIME: Flag = number("time", NONE, "Seconds to wait before killing").hide();
const CHANGES: Flag = many("change", 'c', "Apply a Dockerfile instruction to the image");
const SIZE: Flag = switch("size", 's', "Show how much was written");

pub const RUN: Command = Command::new(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    Words::Least(1),
    run::run,
    "Create a container from an image and run it",
)
.flags(&[create_flags::CREATE, create_flags::RUN])
.flags_first()
.aliases(&[], "container run, run");

pub const CREATE: Command = Command::new(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    Words::Least(1),
    create::run,
    "Create a container without starting it",
)
.flags(&[create_flags::CREATE])
.flags_first()
.aliases(&[], "container create, create");

pub const EXEC: Command = Command::new(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    Words::Least(2),
    exec::run,
    "Run a command in a running container",
)
.flags(&[&[
    switch("detach", 'd', "Run it in the background"),
    DETACH_KEYS,
    checked_list(
        "env",
        'e',
        "list",
        checks::env,
        "Set an environment variable (NAME=value)",
    ),
    many("env-file", NONE, "Read environment variables from a file"),
    switch("interactive", 'i', "Keep STDIN open"),
    switch("privileged", NONE, "Give every capability and device"),
    switch("tty", 't', "Give the command a terminal"),
    text("user", 'u', "User, or UID[:GID], to run as"),
    text("workdir", 'w', "Folder to start in"),
]])
.flags_first()
.aliases(&[], "container exec, exec");

pub const PS: Command = Command::new("ps", "[OPTIONS]", Words::None, list::run, "List containers")
    .flags(PS_FLAGS)
    .aliases(&[], PS_NAMES);

const LS: Command = Command::new("ls", "[OPTIONS]", Words::None, list::run, "List containers")
    .flags(PS_FLAGS)
    .aliases(&["list", "ps"], PS_NAMES);

const PS_NAMES: &str = "container ls, container list, container ps, ps";
const PS_FLAGS: &[&[Flag]] = &[&[
    switch("all", 'a', "Show those that don't run, too"),
    filter('f'),
    LIST_FORMAT,
    number("last", 'n', "Show the last created ones, in any state").or("-1"),
    switch("latest", 'l', "Show the last created one, in any state"),
    NO_TRUNC,
    IDS_ONLY,
    SIZE,
]];

pub const ATTACH: Command = Command::new(
    "attach",
    "[OPTIONS] CONTAINER",
    Words::Exact(1),
    attach::run,
    "Connect the terminal's streams to a running container",
)
.flags(&[&[
    DETACH_KEYS,
    switch("no-stdin", NONE, "Don't connect STDIN"),
    SIG_PROXY,
]])
.aliases(&[], "container attach, attach");

pub const START: Command = Command::new(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    attach::start,
    "Start stopped containers",
)
.flags(&[&[
    switch(
        "attach",
        'a',
        "Connect STDOUT and STDERR, and pass signals on",
    ),
    DETACH_KEYS,
    switch("interactive", 'i', "Connect STDIN"),
]])
.aliases(&[], "container start, start");

pub const STOP: Command = Command::new(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::stop,
    "Stop running containers",
)
.flags(&[&[SIGNAL, TIMEOUT, TIME]])
.aliases(&[], "container stop, stop");

pub const RESTART: Command = Command::new(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::restart,
    "Stop containers and start them again",
)
.flags(&[&[SIGNAL, TIMEOUT, TIME]])
.aliases(&[], "container restart, restart");

pub const KILL: Command = Command::new(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::kill,
    "Send running containers a signal, SIGKILL unless told otherwise",
)
.flags(&[&[SIGNAL]])
.aliases(&[], "container kill, kill");

pub const PAUSE: Command = Command::new(
    "pause",
    "CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::pause,
    "Freeze every process of containers",
)
.aliases(&[], "container pause, pause");

pub const UNPAUSE: Command = Command::new(
    "unpause",
    "CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::unpause,
    "Let frozen containers go on",
)
.aliases(&[], "container unpause, unpause");

const RM_FLAGS: &[&[Flag]] = &[&[
    switch("force", 'f', "Kill it first if it runs"),
    switch("link", 'l', "Remove the link of that name"),
    switch("volumes", 'v', "Remove its unnamed volumes, too"),
]];

pub const RM: Command = Command::new(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::remove,
    "Remove containers",
)
.flags(RM_FLAGS)
.aliases(&["remove"], "container rm, container remove, rm");

pub const RENAME: Command = Command::new(
    "rename",
    "CONTAINER NEW_NAME",
    Words::Exact(2),
    lifecycle::rename,
    "Give a container another name",
)
.aliases(&[], "container rename, rename");

pub const WAIT: Command = Command::new(
    "wait",
    "CONTAINER [CONTAINER...]",
    Words::Least(1),
    attach::wait_for,
    "Wait until containers end and print their exit codes",
)
.aliases(&[], "container wait, wait");

pub const UPDATE: Command = Command::new(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    lifecycle::update,
    "Change the bounds of containers",
)
.flags(&[&[
    checked(
        "blkio-weight",
        NONE,
        "uint16",
        check_uint16,
        "Relative weight of block I/O, 10 to 1000, 0 for none",
    )
    .or("0"),
    number("cpu-period", NONE, "Length of a CFS period in microseconds").or("0"),
    number(
        "cpu-quota",
        NONE,
        "Processor time per CFS period in microseconds",
    )
    .or("0"),
    number(
        "cpu-rt-period",
        NONE,
        "Length of a real-time period in microseconds",
    )
    .or("0"),
    number(
        "cpu-rt-runtime",
        NONE,
        "Real-time processor time per period in microseconds",
    )
    .or("0"),
    number("cpu-shares", 'c', "Relative weight of processor time").or("0"),
    checked(
        "cpus",
        NONE,
        "decimal",
        checks::cpus,
        "Number of processors, fractions allowed",
    ),
    text("cpuset-cpus", NONE, "Processors to run on (0-3, 0,1)"),
    text("cpuset-mems", NONE, "Memory nodes to use (0-3, 0,1)"),
    checked(
        "kernel-memory",
        NONE,
        "bytes",
        checks::size,
        "Bound the kernel's memory",
    )
    .hide(),
    checked("memory", 'm', "bytes", checks::size, "Bound memory"),
    checked(
        "memory-reservation",
        NONE,
        "bytes",
        checks::size,
        "Memory kept when the machine runs short",
    ),
    checked(
        "memory-swap",
        NONE,
        "bytes",
        checks::swap_size,
        "Bound memory and swap together; -1 for no bound on swap",
    ),
    number(
        "pids-limit",
        NONE,
        "Bound the number of processes; -1 for none",
    )
    .or("0"),
    text(
        "restart",
        NONE,
        "What to do on exit: no, on-failure[:times], always, unless-stopped",
    ),
]])
.aliases(&[], "container update, update");

pub const LOGS: Command = Command::new(
    "logs",
    "[OPTIONS] CONTAINER",
    Words::Exact(1),
    look::logs,
    "Show what a container wrote",
)
.flags(&[&[
    switch("details", NONE, "Show the attributes given to the log"),
    switch("follow", 'f', "Go on as more is written"),
    text(
        "since",
        NONE,
        "From this time on (2013-01-02T13:23:37Z, or 42m for 42 minutes ago)",
    ),
    text("tail", 'n', "Only so many lines from the end").or("all"),
    switch("timestamps", 't', "Show when each line was written"),
    text(
        "until",
        NONE,
        "Up to this time (2013-01-02T13:23:37Z, or 42m for 42 minutes ago)",
    ),
]])
.aliases(&[], "container logs, logs");

pub const TOP: Command = Command::new(
    "top",
    "CONTAINER [ps OPTIONS]",
    Words::Least(1),
    look::top,
    "Show the processes of a container",
)
.flags_first()
.aliases(&[], "container top, top");

pub const PORT: Command = Command::new(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    Words::Between(1, 2),
    look::port,
    "Show where a container's ports are reachable",
)
.aliases(&[], "container port, port");

pub const DIFF: Command = Command::new(
    "diff",
    "CONTAINER",
    Words::Exact(1),
    look::diff,
    "Show which files of a container differ from its image",
)
.aliases(&[], "container diff, diff");

pub const CP: Command = Command::new(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    Words::Exact(2),
    copy::run,
    "Copy files between a container and this machine",
)
.flags(&[&[
    switch("archive", 'a', "Keep owners"),
    switch("follow-link", 'L', "Copy what a symbolic link points to"),
    switch("quiet", 'q', "Don't say how much was copied"),
]])
.aliases(&[], "container cp, cp");

pub const COMMIT: Command = Command::new(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    Words::Between(1, 2),
    commit::commit,
    "Make an image of a container's changes",
)
.flags(&[&[
    text("author", 'a', "Author (\"Ada Lovelace <ada@example.org>\")"),
    CHANGES,
    text("message", 'm', "What was changed"),
    switch("pause", 'p', "Freeze the container meanwhile").or("true"),
]])
.aliases(&[], "container commit, commit");

pub const EXPORT: Command = Command::new(
    "export",
    "[OPTIONS] CONTAINER",
    Words::Exact(1),
    commit::export,
    "Write a container's file system as a tar archive",
)
.flags(&[&[text("output", 'o', "Write to this file instead of STDOUT")]])
.aliases(&[], "container export, export");

pub const STATS: Command = Command::new(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    Words::Any,
    stats::run,
    "Show how much containers use",
)
.flags(&[&[
    switch("all", 'a', "Show those that don't run, too"),
    LIST_FORMAT,
    switch("no-stream", NONE, "Show one sample and end"),
    NO_TRUNC,
]])
.aliases(&[], "container stats, stats");

const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Words::Least(1),
    look::inspect,
    "Show everything about containers",
)
.flags(&[&[OBJECT_FORMAT, SIZE]]);

const PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    lifecycle::prune,
    "Remove every stopped container",
)
.flags(&[&[filter(NONE), NO_QUESTION]]);

/// The group.
pub const CONTAINER: Command = Command::group(
    "container",
    "Manage containers",
    &[
        &ATTACH, &COMMIT, &CP, &CREATE, &DIFF, &EXEC, &EXPORT, &INSPECT, &KILL, &LOGS, &LS, &PAUSE,
        &PORT, &PRUNE, &RENAME, &RESTART, &RM, &RUN, &START, &STATS, &STOP, &TOP, &UNPAUSE,
        &UPDATE, &WAIT,
    ],
);
