//! Wharf side by side with what people use today: runc, crun and Docker, on this machine, in one run.
//!
//! `cargo xtask bench` installs the peers, builds the release binary and runs all of it; words after `--` choose the
//! measures whose name contains one of them. The two sides of a measure take turns; figures are medians, after a
//! warm-up. Everything runs in namespaces of its own.

mod builds;
mod contest;
mod daemons;
mod memory;
mod runtimes;

use std::path::PathBuf;

use contest::Report;

fn main() {
    let wharf = std::env::var_os("WHARF_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_wharf")), PathBuf::from);
    // Cargo adds `--bench`; the rest chooses.
    let chosen = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let mut report = Report::new(chosen.collect());
    runtimes::measure(&mut report, &wharf);
    daemons::measure(&mut report, &wharf);
    report.print();
}
