//! Control groups of version 2 and systemd, which the machine that runs the tests need not have: the ignored tests below
//! run in a virtual machine, started by the one that is not ignored.
#![allow(clippy::unwrap_used)]

#[path = "../case/mod.rs"]
mod case;
mod limits;
mod scope;

use std::path::Path;

use wharf_testkit::virtual_machine;

/// Runs this program again, in the machine, with the ignored tests.
#[test]
fn everything_holds_on_cgroup_v2_with_systemd() {
    let tests = std::env::current_exe().unwrap();
    let runtime = Path::new(env!("CARGO_BIN_EXE_wharf-runtime"));
    let said = virtual_machine::run_script(
        &[(&tests, "tests"), (runtime, "wharf-runtime")],
        "export WHARF_RUNTIME=/test/wharf-runtime PATH=/bin:/sbin:/usr/bin:/usr/sbin TMPDIR=/tmp
        insmod /lib/modules/brd.ko rd_nr=1 rd_size=16384
/test/tests --ignored --test-threads 1",
    );
    println!("{said}");
    assert!(
        said.contains("\nended with 0\n"),
        "the guest's tests failed"
    );
    let ended = said.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(ended >= 12, "only {ended} tests ran");
}
