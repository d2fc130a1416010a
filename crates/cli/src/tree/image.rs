//! Commands on images.

use super::{IDS_ONLY, LIST_FORMAT, NO_QUESTION, NO_TRUNC, OBJECT_FORMAT};
use crate::image::{build, build_flags, list, look, pull, remove, transfer};
use crate::line::command::{Command, Words};
use crate::line::flag::{Flag, NONE, checked, filter, list as many, switch, text};
use crate::opts::checks;
use crate::system::prune;

const TRUST: Flag = switch(
    "disable-content-trust",
    NONE,
    "Accepted for scripts that give it; signatures are not checked",
)
.or("true");
const PLATFORM: Flag = text(
    "platform",
    NONE,
    "Platform of the image (os[/arch[/variant]])",
);

pub const BUILD: Command = Command::new(
    "build",
    "[OPTIONS] PATH | URL | -",
    Words::Exact(1),
    build::run,
    "Build an image from a Dockerfile",
)
.flags(&[build_flags::BUILD])
.aliases(&[], "image build, builder build, build");

pub const PULL: Command = Command::new(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    Words::Exact(1),
    pull::run,
    "Fetch an image from a registry",
)
.flags(&[&[
    switch("all-tags", 'a', "Fetch every tag of the repository"),
    TRUST,
    PLATFORM,
    switch("quiet", 'q', "Don't show progress"),
]])
.aliases(&[], "image pull, pull");

pub const PUSH: Command = Command::new(
    "push",
    "[OPTIONS] NAME[:TAG]",
    Words::Exact(1),
    pull::push,
    "Send an image to a registry",
)
.flags(&[&[
    switch("all-tags", 'a', "Send every tag of the repository"),
    TRUST,
    PLATFORM,
    switch("quiet", 'q', "Don't show progress"),
]])
.aliases(&[], "image push, push");

const LIST_FLAGS: &[&[Flag]] = &[&[
    switch("all", 'a', "Show intermediate images, too"),
    switch("digests", NONE, "Show digests"),
    filter('f'),
    LIST_FORMAT,
    NO_TRUNC,
    IDS_ONLY,
]];

pub const IMAGES: Command = Command::new(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    Words::Most(1),
    list::run,
    "List images",
)
.flags(LIST_FLAGS)
.aliases(&[], "image ls, image list, images");

const LS: Command = Command::new(
    "ls",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    Words::Most(1),
    list::run,
    "List images",
)
.flags(LIST_FLAGS)
.aliases(&["list"], "image ls, image list, images");

pub const TAG: Command = Command::new(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    Words::Exact(2),
    remove::tag,
    "Give an image a further name",
)
.aliases(&[], "image tag, tag");

const RM_FLAGS: &[&[Flag]] = &[&[
    switch(
        "force",
        'f',
        "Remove it even when a stopped container uses it",
    ),
    switch("no-prune", NONE, "Keep parents that have no name"),
]];

pub const RMI: Command = Command::new(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    Words::Least(1),
    remove::run,
    "Remove images",
)
.flags(RM_FLAGS)
.aliases(&[], "image rm, image remove, rmi");

const RM: Command = Command::new(
    "rm",
    "[OPTIONS] IMAGE [IMAGE...]",
    Words::Least(1),
    remove::run,
    "Remove images",
)
.flags(RM_FLAGS)
.aliases(&["remove"], "image rm, image remove, rmi");

pub const SAVE: Command = Command::new(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    Words::Least(1),
    transfer::save,
    "Write images as a tar archive",
)
.flags(&[&[
    text("output", 'o', "Write to this file instead of STDOUT"),
    PLATFORM,
]])
.aliases(&[], "image save, save");

pub const LOAD: Command = Command::new(
    "load",
    "[OPTIONS]",
    Words::None,
    transfer::load,
    "Take images from a tar archive",
)
.flags(&[&[
    text("input", 'i', "Read from this file instead of STDIN"),
    PLATFORM,
    switch("quiet", 'q', "Don't show progress"),
]])
.aliases(&[], "image load, load");

pub const IMPORT: Command = Command::new(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    Words::Least(1),
    transfer::import,
    "Make an image from a tar archive of a file system",
)
.flags(&[&[
    many("change", 'c', "Apply a Dockerfile instruction to the image"),
    text("message", 'm', "Message for the image's history"),
    PLATFORM,
]])
.aliases(&[], "image import, import");

pub const HISTORY: Command = Command::new(
    "history",
    "[OPTIONS] IMAGE",
    Words::Exact(1),
    look::history,
    "Show the layers of an image",
)
.flags(&[&[
    LIST_FORMAT,
    switch("human", 'H', "Show sizes and dates for people").or("true"),
    NO_TRUNC,
    IDS_ONLY,
]])
.aliases(&[], "image history, history");

const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    Words::Least(1),
    look::inspect,
    "Show everything about images",
)
.flags(&[&[OBJECT_FORMAT]]);

const PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    remove::prune,
    "Remove images that nothing uses",
)
.flags(&[&[
    switch(
        "all",
        'a',
        "Remove every image without a container, not only those without a name",
    ),
    filter(NONE),
    NO_QUESTION,
]]);

const BUILDER_PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Words::None,
    prune::builder,
    "Remove what builds keep for reuse",
)
.flags(&[&[
    switch("all", 'a', "Remove everything, not only what is dangling"),
    filter(NONE),
    NO_QUESTION,
    checked("keep-storage", NONE, "bytes", checks::size, "Keep so much"),
]]);

/// The group.
pub const IMAGE: Command = Command::group(
    "image",
    "Manage images",
    &[
        &BUILD, &HISTORY, &IMPORT, &INSPECT, &LOAD, &LS, &PRUNE, &PULL, &PUSH, &RM, &SAVE, &TAG,
    ],
);

/// The group of builds.
pub const BUILDER: Command = Command::group("builder", "Manage builds", &[&BUILD, &BUILDER_PRUNE]);
