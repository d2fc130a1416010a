//! Finding the program and becoming it.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::{Failure, Step, failed};

const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// Where commands are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD_BYTES_MAX: u64 = 1024 * 1024;

/// A program, found and ready to be run.
#[derive(Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Finds the program as the process's user sees the file system; the root is the container's already.
    pub fn find(process: &Process) -> Step<Program> {
        let args = process.args().as_deref().unwrap_or_default();
        let Some(command) = args.first() else {
            return Err(Failure::new("no command is given (process.args is empty)"));
        };
        let mut env = last_of_each(process.env().as_deref().unwrap_or_default());
        let has_home = |entry: &String| entry.starts_with("HOME=") && entry != "HOME=";
        if !env.iter().any(has_home) {
            env.retain(|entry| entry != "HOME=");
            env.push(format!("HOME={}", home_of(process.user().uid())));
        }
        let path = env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let found = search(command, path)?;
        Ok(Program {
            path: text(found.as_os_str())?,
            args: args
                .iter()
                .map(|arg| text(OsStr::new(arg)))
                .collect::<Step<_>>()?,
            env: env
                .iter()
                .map(|entry| text(OsStr::new(entry)))
                .collect::<Step<_>>()?,
        })
    }

    /// What it will get.
    pub fn env(&self) -> Vec<String> {
        let text = |entry: &CString| entry.to_string_lossy().into_owned();
        self.env.iter().map(text).collect()
    }

    /// Adds a variable, such as `LISTEN_FDS=1`.
    pub fn add_env(&mut self, entry: &str) -> Step {
        self.env.push(text(OsStr::new(entry))?);
        Ok(())
    }

    /// Becomes the program. Returns only when that fails.
    pub fn exec(&self) -> Failure {
        let error = wharf_sys::process::execve(&self.path, &self.args, &self.env);
        let exit_code = match error.kind() {
            std::io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        let message = format!(
            "exec {}: {}",
            self.path.to_string_lossy(),
            super::words(&error)
        );
        Failure { message, exit_code }
    }
}

/// A variable that is set more than once has its last value, and is there once: programs differ in which they take.
fn last_of_each(env: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut last: Vec<String> = env
        .iter()
        .rev()
        .filter(|entry| seen.insert(name(entry)))
        .cloned()
        .collect();
    last.reverse();
    last
}

fn search(command: &str, path: &str) -> Step<PathBuf> {
    if command.contains('/') {
        let candidate = PathBuf::from(command);
        return match check(&candidate) {
            Ok(()) => Ok(candidate),
            Err(error) => Err(refused(command, &candidate, error)),
        };
    }
    let mut denied = None;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = Path::new(folder).join(command);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS | Errno::PERM) => denied = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(candidate) => refused(command, &candidate, Errno::ACCESS),
        None => Failure {
            message: format!("exec: {command:?}: executable file not found in $PATH"),
            exit_code: NOT_FOUND,
        },
    })
}

fn refused(command: &str, candidate: &Path, error: Errno) -> Failure {
    let exit_code = if matches!(error, Errno::NOENT | Errno::NOTDIR) {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    };
    let cause = super::words(&error.into());
    let tried = if exit_code == NOT_FOUND {
        format!("stat {}: ", candidate.display())
    } else {
        String::new()
    };
    Failure {
        message: format!("exec: {command:?}: {tried}{cause}"),
        exit_code,
    }
}

fn check(candidate: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(candidate)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile => {
            // No bit at all: even root can't run it.
            if stat.st_mode & 0o111 == 0 {
                return Err(Errno::ACCESS);
            }
            match rustix::fs::accessat(CWD, candidate, Access::EXEC_OK, AtFlags::EACCESS) {
                // The container's filter is in force and does not know faccessat2: the exec itself will tell.
                Err(Errno::PERM | Errno::NOSYS) => Ok(()),
                other => other,
            }
        }
        _ => Err(Errno::ACCESS),
    }
}

/// Home folder of a user by the container's /etc/passwd; `/` where it does not say.
fn home_of(uid: u32) -> String {
    use std::io::Read;
    let mut text = String::new();
    let Ok(file) = std::fs::File::open("/etc/passwd") else {
        return "/".to_owned();
    };
    if file
        .take(PASSWD_BYTES_MAX)
        .read_to_string(&mut text)
        .is_err()
    {
        return "/".to_owned();
    }
    let home = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2)?.parse() == Ok(uid))
            .then(|| fields.nth(2))
            .flatten()
    });
    home.filter(|home| !home.is_empty())
        .unwrap_or("/")
        .to_owned()
}

fn text(bytes: &OsStr) -> Step<CString> {
    CString::new(bytes.as_bytes()).map_err(|_| {
        Failure::new(format!(
            "{bytes:?} holds a zero byte, which no program can be given"
        ))
    })
}

/// Goes to the working folder, making it where it is missing, as Docker's containers expect.
pub fn enter_working_folder(process: &Process) -> Step {
    let cwd = process.cwd();
    match rustix::process::chdir(cwd.as_path()) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(cwd)
                .map_err(failed(format!("make working folder {}", cwd.display())))?;
            rustix::process::chdir(cwd.as_path())
                .map_err(failed(format!("enter {}", cwd.display())))
        }
        Err(error) => Err(failed(format!("enter working folder {}", cwd.display()))(
            error,
        )),
    }
}

/// The folder entered must be inside the container: a working folder given through a descriptor of the host
/// (`/proc/self/fd/7`) would not be (CVE-2024-21626).
pub fn verify_working_folder() -> Step {
    rustix::process::getcwd(Vec::new())
        .map_err(failed(
            "the working folder lies outside the container's root file system",
        ))
        .and_then(|path| match path.to_bytes().first() {
            Some(b'/') => Ok(()),
            _ => Err(Failure::new(
                "the working folder lies outside the container's root file system",
            )),
        })
}
