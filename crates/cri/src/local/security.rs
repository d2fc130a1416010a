//! A container's security context in the engine's words.

use tonic::Status;
use wharf_engine::{ContainerSpec, PodPart};

use super::io;
use crate::v1;
use v1::security_profile::ProfileType;

/// A profile is a small text.
const PROFILE_BYTES_MAX: u64 = 4 << 20;

/// Puts all of it into the container's specification.
pub(super) fn apply(
    context: &v1::LinuxContainerSecurityContext,
    spec: &mut ContainerSpec,
    part: &mut PodPart,
) -> Result<(), Status> {
    spec.user = user(context)?;
    spec.privileged = context.privileged;
    spec.read_only_rootfs = context.readonly_rootfs;
    spec.group_add = context
        .supplemental_groups
        .iter()
        .map(i64::to_string)
        .collect();
    part.strict_groups =
        context.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Strict;
    if let Some(capabilities) = &context.capabilities {
        if !capabilities.add_ambient_capabilities.is_empty() {
            return Err(Status::invalid_argument(
                "ambient capabilities are not offered by this handler",
            ));
        }
        spec.cap_add = capabilities.add_capabilities.clone();
        spec.cap_drop = capabilities.drop_capabilities.clone();
    }
    if context.no_new_privs {
        spec.security_opt.push("no-new-privileges".to_owned());
    }
    if let Some(profile) = seccomp(context)? {
        spec.security_opt.push(format!("seccomp={profile}"));
    }
    part.apparmor = apparmor(context);
    if !context.privileged {
        spec.masked_paths = Some(context.masked_paths.clone());
        spec.readonly_paths = Some(context.readonly_paths.clone());
    }
    Ok(())
}

/// `USER[:GROUP]`; nothing: the image's.
fn user(context: &v1::LinuxContainerSecurityContext) -> Result<String, Status> {
    let user = match (&context.run_as_user, context.run_as_username.as_str()) {
        (Some(uid), _) => uid.value.to_string(),
        (None, name) => name.to_owned(),
    };
    match (&context.run_as_group, user.is_empty()) {
        (None, _) => Ok(user),
        (Some(group), false) => Ok(format!("{user}:{}", group.value)),
        (Some(_), true) => Err(Status::invalid_argument(
            "a group to run as was named, but no user",
        )),
    }
}

/// What the engine's option says; nothing: the default profile.
fn seccomp(context: &v1::LinuxContainerSecurityContext) -> Result<Option<String>, Status> {
    let Some(profile) = &context.seccomp else {
        #[allow(deprecated)]
        return old_seccomp(&context.seccomp_profile_path);
    };
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Ok(None),
        ProfileType::Unconfined => Ok(Some("unconfined".to_owned())),
        ProfileType::Localhost => read_profile(&profile.localhost_ref).map(Some),
    }
}

/// The form that clients of old use.
fn old_seccomp(path: &str) -> Result<Option<String>, Status> {
    match path {
        "" | "unconfined" => Ok(Some("unconfined".to_owned())),
        "runtime/default" | "docker/default" => Ok(None),
        path => match path.strip_prefix("localhost/") {
            Some(file) => read_profile(file).map(Some),
            None => Err(Status::invalid_argument(format!(
                "{path:?} is not a seccomp profile"
            ))),
        },
    }
}

fn read_profile(path: &str) -> Result<String, Status> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(PROFILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(io(format!("read the seccomp profile {path}")))?;
    Ok(text)
}

fn apparmor(context: &v1::LinuxContainerSecurityContext) -> Option<String> {
    let profile = context.apparmor.as_ref()?;
    match profile.profile_type() {
        ProfileType::Localhost => Some(profile.localhost_ref.clone()),
        ProfileType::RuntimeDefault | ProfileType::Unconfined => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> v1::LinuxContainerSecurityContext {
        v1::LinuxContainerSecurityContext::default()
    }

    #[test]
    fn groups_need_a_user() {
        let mut asked = context();
        assert_eq!(user(&asked).unwrap(), "");
        asked.run_as_group = Some(v1::Int64Value { value: 7 });
        assert!(user(&asked).is_err());
        asked.run_as_user = Some(v1::Int64Value { value: 5 });
        assert_eq!(user(&asked).unwrap(), "5:7");
        asked.run_as_user = None;
        asked.run_as_username = "www".into();
        assert_eq!(user(&asked).unwrap(), "www:7");
    }

    #[test]
    fn profiles_that_are_not_there_are_refused() {
        let mut asked = context();
        assert_eq!(seccomp(&asked).unwrap().as_deref(), Some("unconfined"));
        asked.seccomp = Some(v1::SecurityProfile::default());
        assert_eq!(seccomp(&asked).unwrap(), None);
        asked.seccomp = Some(v1::SecurityProfile {
            profile_type: ProfileType::Localhost.into(),
            localhost_ref: "/nowhere/x.json".into(),
        });
        assert!(
            seccomp(&asked)
                .unwrap_err()
                .message()
                .contains("/nowhere/x.json")
        );
    }
}
