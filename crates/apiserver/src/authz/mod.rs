//! What users may do: group of masters, nodes for what is theirs, and roles with their bindings.

pub mod defaults;
pub mod escalation;
pub mod node;
pub mod rbac;
pub mod review;

use std::sync::{Arc, PoisonError, RwLock};

use wharf_kube_types::Status;
use wharf_kube_types::field::go_quote;

use crate::api::Api;
use crate::authn::{MASTERS, User};
use crate::cache::{Cache, Caches};
use crate::info::Info;
use rbac::Grants;

/// A question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What is to be done.
    pub verb: &'a str,
    /// The resource's group.
    pub group: &'a str,
    /// The resource; empty for a path.
    pub resource: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty for all or none.
    pub namespace: &'a str,
    /// The object's name, or empty.
    pub name: &'a str,
    /// The path, where no resource is meant.
    pub path: &'a str,
}

impl<'a> Ask<'a> {
    /// The question of a request.
    pub fn of(info: &'a Info) -> Self {
        if !info.is_resource {
            return Self {
                verb: info.verb,
                path: &info.path,
                ..Self::default()
            };
        }
        Self {
            verb: info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: "",
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
}

/// The refusal in the original's words.
pub fn forbidden(user: &User, ask: &Ask<'_>) -> Status {
    let who = format!("User {} cannot {}", go_quote(&user.name), ask.verb);
    if ask.resource.is_empty() {
        let why = format!("{who} path {}", go_quote(ask.path));
        let mut status = Status::forbidden("", "", "", &why);
        status.details = serde_json::json!({});
        return status;
    }
    let resource = match ask.subresource {
        "" => ask.resource.to_owned(),
        sub => format!("{}/{sub}", ask.resource),
    };
    let place = match ask.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", go_quote(namespace)),
    };
    let why = format!(
        "{who} resource {} in API group {} {place}",
        go_quote(&resource),
        go_quote(ask.group)
    );
    Status::forbidden(ask.group, ask.resource, ask.name, &why)
}

const RBAC: [&str; 4] = [
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/clusterroles",
    "rbac.authorization.k8s.io/rolebindings",
    "rbac.authorization.k8s.io/clusterrolebindings",
];

/// Answers questions.
#[derive(Debug)]
pub struct Authorizer {
    caches: [Arc<Cache>; 4],
    /// What the roles grant, as of these revisions of the four caches.
    grants: RwLock<([u64; 4], Arc<Grants>)>,
}

impl Authorizer {
    /// Over the server's caches.
    pub fn new(caches: &Caches) -> Self {
        Self {
            caches: RBAC.map(|prefix| caches.of(prefix)),
            grants: RwLock::new(([u64::MAX; 4], Arc::default())),
        }
    }

    /// What roles grant now.
    pub fn grants(&self) -> Arc<Grants> {
        let stamp = || [0, 1, 2, 3].map(|n| self.caches[n].newest());
        let now = stamp();
        let known = self.grants.read().unwrap_or_else(PoisonError::into_inner);
        if known.0 == now {
            return known.1.clone();
        }
        drop(known);
        let mut known = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        // Read before the objects: a change in between makes the next question read again.
        let now = stamp();
        if known.0 != now {
            *known = (now, Arc::new(Grants::read(&self.caches)));
        }
        known.1.clone()
    }

    /// Answers a question.
    pub fn allows(&self, api: &Api, user: &User, ask: &Ask<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        if let Some(node) = node::name_of(user)
            && node::allows(api, node, ask)
        {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        self.grants().allows(user, ask)
    }

    /// Refuses what may not be done.
    ///
    /// # Errors
    /// 403.
    pub fn demand(&self, api: &Api, user: &User, ask: &Ask<'_>) -> Result<(), Status> {
        match self.allows(api, user, ask).allowed {
            true => Ok(()),
            false => Err(forbidden(user, ask)),
        }
    }
}
