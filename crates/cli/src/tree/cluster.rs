//! Commands on the cluster.

use crate::cluster::why;
use crate::line::command::{Command, Words};
use crate::line::flag::{NONE, text};

pub const WHY: Command = Command::new(
    "why",
    "[OPTIONS] POD",
    Words::Exact(1),
    why::run,
    "Say where a pod of the cluster stands, and what keeps it there",
)
.flags(&[&[
    text(
        "kubeconfig",
        NONE,
        "The cluster and the user (default: $KUBECONFIG, then the running cluster's)",
    ),
    text("namespace", 'n', "Namespace of the pod"),
]]);
