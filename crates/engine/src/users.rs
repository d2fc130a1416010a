//! Who a process runs as: `user[:group]` by the container's own /etc/passwd and /etc/group, read inside its root.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{Error, Kind, Result};

const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Numbers of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub home: Option<String>,
}

/// Looks a user up in the file system that `root` is the top of.
pub(crate) fn resolve(root: BorrowedFd<'_>, user: &str, group_add: &[String]) -> Result<User> {
    let passwd = read_inside(root, "etc/passwd");
    let group = read_inside(root, "etc/group");
    find(user, group_add, &passwd, &group)
}

/// The same for a process of a container: a pod may want no groups of the image's.
pub(crate) fn of_container(
    root: BorrowedFd<'_>,
    spec: &crate::ContainerSpec,
    user: &str,
) -> Result<User> {
    let mut found = resolve(root, user, &spec.group_add)?;
    if spec.pod.as_ref().is_some_and(|pod| pod.strict_groups) {
        found.additional_gids = spec
            .group_add
            .iter()
            .filter_map(|group| group.parse().ok())
            .collect();
    }
    Ok(found)
}

/// A file of the image; links stay inside, a missing or unreadable file is empty.
fn read_inside(root: BorrowedFd<'_>, path: &str) -> String {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Not blocking: the image may have put a FIFO there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut text = String::new();
    if let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        let mut bytes = Vec::new();
        if File::from(file)
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .is_ok()
        {
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    text
}

fn find(wanted: &str, group_add: &[String], passwd: &str, group: &str) -> Result<User> {
    let (name, group_name) = wanted
        .split_once(':')
        .map_or((wanted, None), |(user, group)| (user, Some(group)));
    let name = if name.is_empty() { "0" } else { name };
    let entries = || {
        passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .filter(|fields| fields.len() >= 4)
    };
    // A name that is a number is first looked for as a name, then as a number.
    let by_name = entries().find(|fields| fields[0] == name);
    let number = name.parse::<u32>().ok();
    let entry = by_name.or_else(|| {
        entries().find(|fields| number.is_some() && fields[2].parse() == Ok(number.unwrap_or(0)))
    });
    let uid = match (&entry, number) {
        (Some(fields), _) => fields[2].parse().unwrap_or(0),
        (None, Some(number)) => number,
        (None, None) => {
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("unable to find user {name}: no matching entries in passwd file"),
            ));
        }
    };
    let gid = match group_name {
        Some(group_name) => find_group(group_name, group)?,
        None => entry
            .as_ref()
            .and_then(|fields| fields[3].parse().ok())
            .unwrap_or(0),
    };
    // The primary group comes first: a program that drops it keeps no rights that its files deny that very group
    // (CVE-2022-36109).
    let mut additional_gids = vec![gid];
    if let (None, Some(fields)) = (group_name, &entry) {
        additional_gids.extend(
            groups_with_member(fields[0], group)
                .into_iter()
                .filter(|g| *g != gid),
        );
    }
    for extra in group_add {
        let gid = find_group(extra, group)?;
        if !additional_gids.contains(&gid) {
            additional_gids.push(gid);
        }
    }
    let home = entry
        .and_then(|fields| fields.get(5).map(|home| (*home).to_owned()))
        .filter(|home| !home.is_empty());
    Ok(User {
        uid,
        gid,
        additional_gids,
        home,
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32> {
    let found = group.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.first() == Some(&wanted))
            .then(|| fields.get(2)?.parse::<u32>().ok())
            .flatten()
    });
    found.or_else(|| wanted.parse().ok()).ok_or_else(|| {
        Error::new(
            Kind::InvalidParameter,
            format!("unable to find group {wanted}: no matching entries in group file"),
        )
    })
}

fn groups_with_member(name: &str, group: &str) -> Vec<u32> {
    let member_of = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let is_member = fields
            .get(3)?
            .split(',')
            .any(|member| member.trim() == name);
        is_member.then(|| fields[2].parse().ok()).flatten()
    };
    group.lines().filter_map(member_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n500:x:7:8::/:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nann:x:1000:\nwheel:x:10:ann,root\naudio:x:63:ann\n";

    fn user(text: &str) -> (u32, u32, Vec<u32>) {
        let user = find(text, &[], PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.additional_gids)
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(user(""), (0, 0, vec![0, 10]));
        assert_eq!(user("ann"), (1000, 1000, vec![1000, 10, 63]));
        assert_eq!(user("1000"), (1000, 1000, vec![1000, 10, 63]));
        assert_eq!(user("ann:wheel"), (1000, 10, vec![10]));
        assert_eq!(user("4711"), (4711, 0, vec![0]));
        assert_eq!(user("4711:4712"), (4711, 4712, vec![4712]));
        assert_eq!(user("500"), (7, 8, vec![8]), "a name of digits");
        assert_eq!(
            find("ann", &["audio".into(), "99".into()], PASSWD, GROUP)
                .unwrap()
                .additional_gids,
            [1000, 10, 63, 99]
        );
    }

    #[test]
    fn unknown_ones_are_refused() {
        assert!(
            find("bob", &[], PASSWD, GROUP)
                .unwrap_err()
                .message
                .contains("unable to find user bob")
        );
        assert!(
            find("ann:nobody", &[], PASSWD, GROUP)
                .unwrap_err()
                .message
                .contains("unable to find group nobody")
        );
    }
}
