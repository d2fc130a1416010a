//! `--chown`: names looked up in the image's own passwd and group files.

use std::io::Read;
use std::path::Path;

use crate::Error;
use crate::place::{Owner, Root};

/// Larger files are not looked at.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// `USER[:GROUP]`, by name or number.
pub(crate) fn parse(text: &str, root: &Root<'_>) -> Result<Owner, Error> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    if user.is_empty() || group.is_empty() || group.contains(':') {
        return Err(Error::Invalid(format!(
            "invalid chown string format: {text}"
        )));
    }
    Ok(Owner {
        uid: look_up(root, "/etc/passwd", user).ok_or_else(|| unknown("uid", "user", user))?,
        gid: look_up(root, "/etc/group", group).ok_or_else(|| unknown("gid", "group", group))?,
    })
}

fn unknown(id: &str, kind: &str, name: &str) -> Error {
    Error::Invalid(format!(
        "unable to convert uid/gid chown string to host mapping: can't find {id} for {kind} {name}: no such {kind}: {name}"
    ))
}

fn look_up(root: &Root<'_>, file: &str, name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let mut text = Vec::new();
    let opened = root.open_file(Path::new(file)).ok()?;
    if !opened.metadata().ok()?.is_file() {
        return None;
    }
    opened.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    id_of(&String::from_utf8_lossy(&text), name)
}

/// Third field of the line that starts with the name.
fn id_of(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let fits = fields.next() == Some(name);
        fields.nth(1).filter(|_| fits)?.trim().parse().ok()
    })
}

/// `--chmod`: an octal mode.
pub(crate) fn parse_mode(text: &str) -> Result<u32, Error> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Error::Invalid(format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nwww:x:33:34::/:\n";
        assert_eq!(id_of(passwd, "www"), Some(33));
        assert_eq!(id_of(passwd, "ww"), None);
        assert_eq!(id_of(passwd, "bad"), None);
        assert_eq!(parse_mode("0755").unwrap(), 0o755);
        for bad in ["", "8", "u+x", "10000", "-1"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
