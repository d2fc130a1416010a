//! No control group at all, for those who were given none.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use crate::{Cgroup, Error, OomWatch, Result, Stats};

/// Takes every process and limits nothing.
#[derive(Debug)]
pub struct Absent;

fn missing(what: &str) -> Error {
    Error::Unsupported(format!("{what}: the container has no control group"))
}

impl Cgroup for Absent {
    fn apply(&self, _: &LinuxResources) -> Result<()> {
        Err(missing("limit resources"))
    }

    fn add_process(&self, _: i32) -> Result<()> {
        Ok(())
    }

    fn join_self(&self) -> Result<()> {
        Ok(())
    }

    fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn processes(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }

    fn freeze(&self) -> Result<()> {
        Err(missing("freeze"))
    }

    fn thaw(&self) -> Result<()> {
        Ok(())
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(false)
    }

    fn kill_all(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Result<Stats> {
        Err(missing("read the figures"))
    }

    fn oom_watch(&self) -> Result<OomWatch> {
        Err(missing("watch for want of memory"))
    }

    fn delete(&self) -> Result<()> {
        Ok(())
    }

    fn paths(&self) -> BTreeMap<String, PathBuf> {
        BTreeMap::new()
    }
}
