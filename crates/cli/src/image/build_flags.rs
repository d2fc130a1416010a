//! The flags of `build`.

use crate::line::flag::{Flag, NONE, checked, checked_list, csv, number, switch, text};
use crate::opts::checks;

/// Flags of `build`.
pub const BUILD: &[Flag] = &[
    checked_list(
        "add-host",
        NONE,
        "list",
        checks::extra_host,
        "Add a line to the hosts file of every step (host:ip)",
    ),
    checked_list(
        "build-arg",
        NONE,
        "list",
        checks::env,
        "Set a variable of the build (NAME=value)",
    ),
    csv(
        "cache-from",
        NONE,
        "Images whose layers may be used as cache",
    ),
    text(
        "cgroup-parent",
        NONE,
        "Put the steps' control groups below this one",
    ),
    switch(
        "compress",
        NONE,
        "Compress the context on its way to the daemon",
    ),
    number("cpu-period", NONE, "Length of a CFS period in microseconds").or("0"),
    number(
        "cpu-quota",
        NONE,
        "Processor time per CFS period in microseconds",
    )
    .or("0"),
    number("cpu-shares", 'c', "Relative weight of processor time").or("0"),
    text("cpuset-cpus", NONE, "Processors to run on (0-3, 0,1)"),
    text("cpuset-mems", NONE, "Memory nodes to use (0-3, 0,1)"),
    switch(
        "disable-content-trust",
        NONE,
        "Accepted for scripts that give it; signatures are not checked",
    )
    .or("true"),
    text(
        "file",
        'f',
        "The Dockerfile (PATH/Dockerfile when not given, '-' for STDIN)",
    ),
    switch(
        "force-rm",
        NONE,
        "Remove the steps' containers even when a step fails",
    ),
    text("iidfile", NONE, "Write the image's ID to this file"),
    text(
        "isolation",
        NONE,
        "How to isolate; Linux knows only 'default'",
    ),
    checked_list(
        "label",
        NONE,
        "list",
        checks::label,
        "Attach a label to the image (name=value)",
    ),
    checked("memory", 'm', "bytes", checks::size, "Bound memory"),
    checked(
        "memory-swap",
        NONE,
        "bytes",
        checks::swap_size,
        "Bound memory and swap together; -1 for no bound on swap",
    ),
    text("network", NONE, "Network of the RUN steps").or("default"),
    switch("no-cache", NONE, "Run every step again"),
    text(
        "platform",
        NONE,
        "Platform of the image (os[/arch[/variant]])",
    ),
    switch("pull", NONE, "Always look for newer base images"),
    switch("quiet", 'q', "Print only the image's ID"),
    switch("rm", NONE, "Remove the steps' containers").or("true"),
    csv("security-opt", NONE, "Security option for the steps"),
    checked(
        "shm-size",
        NONE,
        "bytes",
        checks::size,
        "Size of /dev/shm in the steps",
    ),
    switch("squash", NONE, "Make one layer of all new ones"),
    checked_list(
        "tag",
        't',
        "list",
        checks::tag,
        "Name of the image (name[:tag])",
    ),
    text("target", NONE, "Build up to this stage"),
    checked_list(
        "ulimit",
        NONE,
        "ulimit",
        checks::ulimit,
        "Bound a resource of the steps' processes (nofile=1024)",
    ),
    text(
        "progress",
        NONE,
        "Accepted for scripts that give it; progress is plain",
    )
    .hide(),
];
