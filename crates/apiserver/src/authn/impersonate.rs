//! Impersonation: acting as someone else, for those who may.

use std::sync::Arc;

use http::HeaderMap;
use wharf_kube_types::Status;

use super::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::api::Api;
use crate::authz::{Ask, forbidden};

const EXTRA: &str = "impersonate-extra-";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

/// The user that a request acts as: the impersonated one, where headers ask for it.
///
/// # Errors
/// 403 if the user may not, 400 for headers that make no sense.
pub fn act_as(api: &Api, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let name = text(headers, "impersonate-user");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    let uid = text(headers, "impersonate-uid");
    let extras = || {
        let all = headers.iter();
        all.filter(|(key, _)| key.as_str().starts_with(EXTRA))
    };
    if name.is_empty() {
        if !groups.is_empty() || !uid.is_empty() || extras().next().is_some() {
            return Err(Status::bad_request(
                "requested impersonation without impersonating a user",
            ));
        }
        return Ok(user);
    }
    let mut other = User {
        name: name.to_owned(),
        uid: uid.to_owned(),
        groups,
        ..User::default()
    };
    become_user(api, &user, &mut other)?;
    for (key, value) in extras() {
        let key = key.as_str().trim_start_matches(EXTRA).to_owned();
        let value = value.to_str().unwrap_or_default().to_owned();
        let what = ("authentication.k8s.io", "userextras", key.as_str());
        may(api, &user, what, "", &value)?;
        other.extra.entry(key).or_default().push(value);
    }
    let anonymous = other.name == "system:anonymous";
    let proof = if anonymous {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !other.is_in(proof) {
        other.groups.push(proof.to_owned());
    }
    Ok(Arc::new(other))
}

/// Whether a user may impersonate something: group, resource and subresource; namespace; name.
fn may(
    api: &Api,
    user: &User,
    (group, resource, subresource): (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let ask = Ask {
        verb: "impersonate",
        group,
        resource,
        subresource,
        namespace,
        name,
        path: "",
    };
    match api.authorizer.allows(api, user, &ask).allowed {
        true => Ok(()),
        false => Err(forbidden(user, &ask)),
    }
}

/// Checks name, groups and uid, and fills in the groups of a service account.
fn become_user(api: &Api, user: &User, other: &mut User) -> Result<(), Status> {
    let name = other.name.clone();
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|n| n.split_once(':'));
    let mut own = Vec::new();
    match account {
        Some((namespace, account)) => {
            may(api, user, ("", "serviceaccounts", ""), namespace, account)?;
            own.push("system:serviceaccounts".to_owned());
            own.push(format!("system:serviceaccounts:{namespace}"));
        }
        None => may(api, user, ("", "users", ""), "", &name)?,
    }
    if other.groups.is_empty() {
        other.groups = own.clone();
    }
    for group in other.groups.iter().filter(|group| !own.contains(group)) {
        may(api, user, ("", "groups", ""), "", group)?;
    }
    if !other.uid.is_empty() {
        let what = ("authentication.k8s.io", "uids", "");
        may(api, user, what, "", &other.uid)?;
    }
    Ok(())
}
