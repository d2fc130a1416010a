//! Commands on networks, volumes, registries and the daemon.

use super::{IDS_ONLY, LIST_FORMAT, NO_QUESTION, NO_TRUNC, OBJECT_FORMAT};
use crate::line::command::{Command, Words};
use crate::line::flag::{Flag, NONE, checked_list, csv, filter, number, switch, text};
use crate::opts::checks;
use crate::system::{disk, events, info, inspect, login, prune, search, version};
use crate::{network, volume};

const LABEL: Flag = checked_list(
    "label",
    NONE,
    "list",
    checks::label,
    "Attach a label (name=value)",
);
const OPT: Flag = checked_list(
    "opt",
    'o',
    "map",
    checks::any,
    "Option for the driver (name=value)",
);

pub const LOGIN: Command = Command::new(
    "login",
    "[OPTIONS] [SERVER]",
    Words::Most(1),
    login::login,
    "Give credentials for a registry",
)
.flags(&[&[
    text("password", 'p', "Password or personal access token"),
    switch("password-stdin", NONE, "Read the password from STDIN"),
    text("username", 'u', "User name"),
]]);

pub const LOGOUT: Command = Command::new(
    "logout",
    "[SERVER]",
    Words::Most(1),
    login::logout,
    "Forget the credentials for a registry",
);

pub const SEARCH: Command = Command::new(
    "search",
    "[OPTIONS] TERM",
    Words::Exact(1),
    search::run,
    "Search the public registry for images",
)
.flags(&[&[
    filter('f'),
    LIST_FORMAT,
    number("limit", NONE, "At most so many results").or("0"),
    NO_TRUNC,
]]);

pub const VERSION: Command = Command::new(
    "version",
    "[OPTIONS]",
    Words::None,
    version::run,
    "Show the versions of client and daemon",
)
.flags(&[&[OBJECT_FORMAT]]);

pub const INFO: Command = Command::new(
    "info",
    "[OPTIONS]",
    Words::None,
    info::run,
    "Show what the daemon is and has",
)
.flags(&[&[OBJECT_FORMAT]])
.aliases(&[], "system info, info");

pub const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    Words::Least(1),
    inspect::run,
    "Show everything about containers, images, networks and volumes",
)
.flags(&[&[
    OBJECT_FORMAT,
    switch("size", 's', "Show how much a container wrote"),
    text(
        "type",
        NONE,
        "Look only among these: container, image, network, volume",
    ),
]]);

pub const EVENTS: Command = Command::new(
    "events",
    "[OPTIONS]",
    Words::None,
    events::run,
    "Show what happens in the daemon as it happens",
)
.flags(&[&[
    filter('f'),
    LIST_FORMAT,
    text("since", NONE, "From this time on"),
    text("until", NONE, "Up to this time"),
]])
.aliases(&[], "system events, events");

const DF: Command = Command::new(
    "df",
    "[OPTIONS]",
    Words::None,
    disk::run,
    "Show what takes how much space",
)
.flags(&[&[LIST_FORMAT, switch("verbose", 'v', "Show every object")]]);

const SYSTEM_PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    prune::system,
    "Remove everything that nothing uses",
)
.flags(&[&[
    switch(
        "all",
        'a',
        "Remove every image without a container, not only those without a name",
    ),
    filter(NONE),
    NO_QUESTION,
    switch("volumes", NONE, "Remove unnamed volumes, too"),
]]);

/// The group.
pub const SYSTEM: Command = Command::group(
    "system",
    "Manage the daemon",
    &[&DF, &EVENTS, &INFO, &SYSTEM_PRUNE],
);

const VOLUME_CREATE: Command = Command::new(
    "create",
    "[OPTIONS] [VOLUME]",
    Words::Most(1),
    volume::create,
    "Make a volume",
)
.flags(&[&[
    text("driver", 'd', "Driver of the volume").or("local"),
    LABEL,
    text("name", NONE, "Name of the volume").hide(),
    OPT,
]]);
const VOLUME_LS: Command =
    Command::new("ls", "[OPTIONS]", Words::None, volume::list, "List volumes")
        .flags(&[&[filter('f'), LIST_FORMAT, IDS_ONLY]])
        .aliases(&["list"], "volume ls, volume list");
const VOLUME_INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    Words::Least(1),
    volume::inspect,
    "Show everything about volumes",
)
.flags(&[&[OBJECT_FORMAT]]);
const VOLUME_RM: Command = Command::new(
    "rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    Words::Least(1),
    volume::remove,
    "Remove volumes and what is in them",
)
.flags(&[&[switch(
    "force",
    'f',
    "Don't complain about volumes that aren't there",
)]])
.aliases(&["remove"], "volume rm, volume remove");
const VOLUME_PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    volume::prune,
    "Remove volumes that no container uses",
)
.flags(&[&[
    switch("all", 'a', "Remove those with a name, too"),
    filter(NONE),
    NO_QUESTION,
]]);

/// The group.
pub const VOLUME: Command = Command::group(
    "volume",
    "Manage volumes",
    &[
        &VOLUME_CREATE,
        &VOLUME_INSPECT,
        &VOLUME_LS,
        &VOLUME_PRUNE,
        &VOLUME_RM,
    ],
);

const NETWORK_CREATE: Command = Command::new(
    "create",
    "[OPTIONS] NETWORK",
    Words::Exact(1),
    network::create,
    "Make a network",
)
.flags(&[&[
    switch("attachable", NONE, "Let containers be connected by hand"),
    checked_list(
        "aux-address",
        NONE,
        "map",
        checks::any,
        "Address that no container gets (name=address)",
    ),
    text("config-from", NONE, "Take the settings of this network"),
    switch(
        "config-only",
        NONE,
        "Keep the settings only, for others to take",
    ),
    text("driver", 'd', "Driver of the network").or("bridge"),
    csv("gateway", NONE, "Gateway of the subnet"),
    switch("ingress", NONE, "Accepted for scripts that give it"),
    switch("internal", NONE, "Let nothing in or out"),
    csv("ip-range", NONE, "Give containers addresses from here"),
    text("ipam-driver", NONE, "Driver that gives addresses").or("default"),
    checked_list(
        "ipam-opt",
        NONE,
        "map",
        checks::any,
        "Option for that driver",
    ),
    switch("ipv4", NONE, "Give IPv4 addresses").or("true"),
    switch("ipv6", NONE, "Give IPv6 addresses"),
    LABEL,
    OPT,
    text("scope", NONE, "How far the network reaches"),
    csv("subnet", NONE, "Subnet in CIDR form"),
]]);
const NETWORK_LS: Command = Command::new(
    "ls",
    "[OPTIONS]",
    Words::None,
    network::list,
    "List networks",
)
.flags(&[&[filter('f'), LIST_FORMAT, NO_TRUNC, IDS_ONLY]])
.aliases(&["list"], "network ls, network list");
const NETWORK_INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    Words::Least(1),
    network::inspect,
    "Show everything about networks",
)
.flags(&[&[OBJECT_FORMAT, switch("verbose", 'v', "Show more")]]);
const NETWORK_RM: Command = Command::new(
    "rm",
    "NETWORK [NETWORK...]",
    Words::Least(1),
    network::remove,
    "Remove networks",
)
.flags(&[&[switch(
    "force",
    'f',
    "Don't complain about networks that aren't there",
)]])
.aliases(&["remove"], "network rm, network remove");
const NETWORK_PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    network::prune,
    "Remove networks that no container uses",
)
.flags(&[&[filter(NONE), NO_QUESTION]]);
const NETWORK_CONNECT: Command = Command::new(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    Words::Exact(2),
    network::connect,
    "Connect a container to a network",
)
.flags(&[&[
    csv("alias", NONE, "Further name on the network"),
    csv("driver-opt", NONE, "Option for the driver"),
    number(
        "gw-priority",
        NONE,
        "Which network has the default gateway: the one with the highest number",
    )
    .or("0"),
    text("ip", NONE, "IPv4 address (172.30.100.104)"),
    text("ip6", NONE, "IPv6 address (2001:db8::33)"),
    checked_list(
        "link",
        NONE,
        "list",
        checks::link,
        "Make another container known by name",
    ),
    csv("link-local-ip", NONE, "Link-local address"),
]]);
const NETWORK_DISCONNECT: Command = Command::new(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    Words::Exact(2),
    network::disconnect,
    "Take a container off a network",
)
.flags(&[&[switch(
    "force",
    'f',
    "Even when the container doesn't answer",
)]]);

/// The group.
pub const NETWORK: Command = Command::group(
    "network",
    "Manage networks",
    &[
        &NETWORK_CONNECT,
        &NETWORK_CREATE,
        &NETWORK_DISCONNECT,
        &NETWORK_INSPECT,
        &NETWORK_LS,
        &NETWORK_PRUNE,
        &NETWORK_RM,
    ],
);
