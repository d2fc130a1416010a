//! The flags of `create` and `run`.

use super::checks;
use crate::line::flag::{
    Flag, NONE, check_uint16, checked, checked_list, list, number, switch, text,
};

/// Flags that `create` and `run` share.
pub const CREATE: &[Flag] = &[
    checked_list(
        "add-host",
        NONE,
        "list",
        checks::extra_host,
        "Add a line to the container's hosts file (host:ip)",
    ),
    checked_list(
        "attach",
        'a',
        "list",
        checks::attach,
        "Connect to STDIN, STDOUT or STDERR",
    ),
    checked(
        "blkio-weight",
        NONE,
        "uint16",
        check_uint16,
        "Relative weight of block I/O, 10 to 1000, 0 for none",
    )
    .or("0"),
    checked_list(
        "blkio-weight-device",
        NONE,
        "list",
        checks::weight_device,
        "Relative weight of block I/O for one device (path:weight)",
    ),
    list("cap-add", NONE, "Give a Linux capability"),
    list("cap-drop", NONE, "Take a Linux capability away"),
    text(
        "cgroup-parent",
        NONE,
        "Put the container's control group below this one",
    ),
    text(
        "cgroupns",
        NONE,
        "Control group namespace: 'host' shares the machine's, 'private' makes a new one",
    ),
    text("cidfile", NONE, "Write the container's ID to this file"),
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
    list(
        "device",
        NONE,
        "Give access to a device of the machine (path[:path inside[:rwm]])",
    ),
    checked_list(
        "device-cgroup-rule",
        NONE,
        "list",
        checks::device_rule,
        "Add a rule to the list of allowed devices",
    ),
    checked_list(
        "device-read-bps",
        NONE,
        "list",
        checks::throttle_bps,
        "Bound bytes read per second from a device (path:rate)",
    ),
    checked_list(
        "device-read-iops",
        NONE,
        "list",
        checks::throttle_iops,
        "Bound reads per second from a device (path:rate)",
    ),
    checked_list(
        "device-write-bps",
        NONE,
        "list",
        checks::throttle_bps,
        "Bound bytes written per second to a device (path:rate)",
    ),
    checked_list(
        "device-write-iops",
        NONE,
        "list",
        checks::throttle_iops,
        "Bound writes per second to a device (path:rate)",
    ),
    switch(
        "disable-content-trust",
        NONE,
        "Accepted for scripts that give it; signatures are not checked",
    )
    .or("true"),
    checked_list("dns", NONE, "list", checks::ip, "Name server to ask"),
    list("dns-option", NONE, "Option for the resolver"),
    list("dns-opt", NONE, "Option for the resolver").hide(),
    checked_list(
        "dns-search",
        NONE,
        "list",
        checks::dns_search,
        "Domain to search names in",
    ),
    text("domainname", NONE, "NIS domain name inside the container"),
    text("entrypoint", NONE, "Program to run instead of the image's"),
    checked_list(
        "env",
        'e',
        "list",
        checks::env,
        "Set an environment variable (NAME=value, or NAME to pass on)",
    ),
    list("env-file", NONE, "Read environment variables from a file"),
    list(
        "expose",
        NONE,
        "Say that a port or a range of ports is served",
    ),
    text("gpus", NONE, "GPUs to pass on (not offered by Wharf)"),
    list("group-add", NONE, "Add a further group"),
    text(
        "health-cmd",
        NONE,
        "Command that tells whether the container is well",
    ),
    checked(
        "health-interval",
        NONE,
        "duration",
        checks::duration,
        "Time between two checks (ms|s|m|h)",
    )
    .or("0s"),
    number(
        "health-retries",
        NONE,
        "Failures in a row that mean unhealthy",
    )
    .or("0"),
    checked(
        "health-start-interval",
        NONE,
        "duration",
        checks::duration,
        "Time between two checks while starting (ms|s|m|h)",
    )
    .or("0s"),
    checked(
        "health-start-period",
        NONE,
        "duration",
        checks::duration,
        "Time to start in before failures count (ms|s|m|h)",
    )
    .or("0s"),
    checked(
        "health-timeout",
        NONE,
        "duration",
        checks::duration,
        "Longest time of one check (ms|s|m|h)",
    )
    .or("0s"),
    text("hostname", 'h', "Host name inside the container"),
    switch(
        "init",
        NONE,
        "Run a small init that reaps processes and passes on signals",
    ),
    switch("interactive", 'i', "Keep STDIN open"),
    text("ip", NONE, "IPv4 address (172.30.100.104)"),
    text("ip6", NONE, "IPv6 address (2001:db8::33)"),
    text(
        "ipc",
        NONE,
        "IPC namespace: none, private, shareable, host, container:NAME",
    ),
    text(
        "isolation",
        NONE,
        "How to isolate; Linux knows only 'default'",
    ),
    checked(
        "kernel-memory",
        NONE,
        "bytes",
        checks::size,
        "Bound the kernel's memory",
    )
    .hide(),
    checked_list(
        "label",
        'l',
        "list",
        checks::label,
        "Attach a label (name=value)",
    ),
    list("label-file", NONE, "Read labels from a file"),
    checked_list(
        "link",
        NONE,
        "list",
        checks::link,
        "Make another container known by name (container[:alias])",
    ),
    list("link-local-ip", NONE, "Link-local IPv4 or IPv6 address"),
    text("log-driver", NONE, "Where the container's output goes"),
    list("log-opt", NONE, "Option for the log (max-size=10m)"),
    text("mac-address", NONE, "MAC address (92:d0:c6:0a:29:33)"),
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
        "memory-swappiness",
        NONE,
        "How readily memory is swapped out, 0 to 100",
    )
    .or("-1"),
    checked_list(
        "mount",
        NONE,
        "mount",
        checks::mount,
        "Attach a file system (type=bind,src=/a,dst=/b)",
    ),
    text("name", NONE, "Name of the container"),
    checked_list(
        "network",
        NONE,
        "network",
        checks::network,
        "Connect to a network",
    ),
    checked_list(
        "net",
        NONE,
        "network",
        checks::network,
        "Connect to a network",
    )
    .hide(),
    list("network-alias", NONE, "Further name on the network"),
    list("net-alias", NONE, "Further name on the network").hide(),
    switch("no-healthcheck", NONE, "Leave out the image's health check"),
    switch("oom-kill-disable", NONE, "Don't kill when memory runs out"),
    number(
        "oom-score-adj",
        NONE,
        "How likely to be killed when memory runs out, -1000 to 1000",
    )
    .or("0"),
    text("pid", NONE, "PID namespace: host, container:NAME"),
    number(
        "pids-limit",
        NONE,
        "Bound the number of processes; -1 for none",
    )
    .or("0"),
    text(
        "platform",
        NONE,
        "Platform of the image (os[/arch[/variant]])",
    ),
    switch("privileged", NONE, "Give every capability and device"),
    list(
        "publish",
        'p',
        "Make a port reachable from outside ([[ip:]port:]port[/proto])",
    ),
    switch(
        "publish-all",
        'P',
        "Make every served port reachable at a free port",
    ),
    text(
        "pull",
        NONE,
        "When to pull the image: always, missing, never",
    )
    .or("missing"),
    switch("quiet", 'q', "Don't show the progress of a pull"),
    switch("read-only", NONE, "Mount the root file system read-only"),
    text(
        "restart",
        NONE,
        "What to do on exit: no, on-failure[:times], always, unless-stopped",
    )
    .or("no"),
    switch(
        "rm",
        NONE,
        "Remove the container and its unnamed volumes when it ends",
    ),
    text("runtime", NONE, "Runtime to use"),
    list(
        "security-opt",
        NONE,
        "Security option (seccomp=FILE, no-new-privileges, apparmor=PROFILE …)",
    ),
    checked("shm-size", NONE, "bytes", checks::size, "Size of /dev/shm"),
    text(
        "stop-signal",
        NONE,
        "Signal that asks the container to stop",
    ),
    number("stop-timeout", NONE, "Seconds to wait before killing it").or("0"),
    list("storage-opt", NONE, "Option for the storage driver"),
    checked_list(
        "sysctl",
        NONE,
        "map",
        checks::sysctl,
        "Kernel setting inside the container (net.x=1)",
    ),
    list(
        "tmpfs",
        NONE,
        "Mount a file system in memory (path[:options])",
    ),
    switch("tty", 't', "Give the container a terminal"),
    checked_list(
        "ulimit",
        NONE,
        "ulimit",
        checks::ulimit,
        "Bound a resource of its processes (nofile=1024:2048)",
    ),
    text("user", 'u', "User, or UID[:GID], to run as"),
    text("userns", NONE, "User namespace: host"),
    text("uts", NONE, "UTS namespace: host"),
    list(
        "volume",
        'v',
        "Attach a folder or a volume (source:path[:options])",
    ),
    text("volume-driver", NONE, "Driver for new volumes"),
    list(
        "volumes-from",
        NONE,
        "Attach the volumes of another container",
    ),
    text("workdir", 'w', "Folder to start in"),
    switch(
        "use-api-socket",
        NONE,
        "Pass the daemon's socket on (not offered by Wharf)",
    )
    .hide(),
];

/// Flags that only `run` has.
pub const RUN: &[Flag] = &[
    switch(
        "detach",
        'd',
        "Run in the background and print the container's ID",
    ),
    text(
        "detach-keys",
        NONE,
        "Keys that leave the container running (ctrl-p,ctrl-q)",
    ),
    switch(
        "sig-proxy",
        NONE,
        "Pass received signals on to the container",
    )
    .or("true"),
    switch("trace", NONE, "Print where the time of the start went"),
];
