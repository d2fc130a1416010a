//! One request about a resource, as the verbs see it: from a client, or from one of the server's own controllers.

use std::sync::Arc;

use wharf_kube_types::Status;

use crate::api::Api;
use crate::authn::User;
use crate::info::Query;
use crate::registry::Kind;

/// What to do about unknown and repeated fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Drop them.
    Ignore,
    /// Drop them and say so.
    Warn,
    /// Refuse them.
    Strict,
}

/// One request about a resource.
#[derive(Clone, Debug)]
pub struct Call {
    /// The server.
    pub api: Arc<Api>,
    /// The resource.
    pub kind: Arc<Kind>,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The name, or empty.
    pub name: String,
    /// Who asks.
    pub user: Arc<User>,
    /// Do all but the write.
    pub dry_run: bool,
    /// Name for the managed fields.
    pub manager: String,
    /// What to do about unknown fields.
    pub validation: Validation,
    /// The query.
    pub query: Query,
    /// What to tell people, gathered on the way.
    pub warnings: Vec<String>,
}

impl Call {
    /// A controller's request.
    pub fn internal(
        api: &Arc<Api>,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        who: &str,
    ) -> Self {
        Self {
            api: api.clone(),
            kind: kind.clone(),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            user: Arc::new(User::system(who)),
            dry_run: false,
            manager: "wharf".to_owned(),
            validation: Validation::Ignore,
            query: Query::default(),
            warnings: Vec::new(),
        }
    }

    /// The same about a subresource.
    pub fn on(mut self, subresource: &str) -> Self {
        subresource.clone_into(&mut self.subresource);
        self
    }

    /// The same request about another object of the same kind.
    pub fn about(&self, namespace: &str, name: &str) -> Self {
        let mut call = self.clone();
        namespace.clone_into(&mut call.namespace);
        name.clone_into(&mut call.name);
        call
    }

    /// The key of the object in the store.
    pub fn key(&self) -> String {
        self.kind.key(&self.namespace, &self.name)
    }

    /// Reads the options that all writes have.
    ///
    /// # Errors
    /// An option that makes no sense.
    pub fn read_options(&mut self, user_agent: &str) -> Result<(), Status> {
        self.dry_run = match self.query.get("dryRun") {
            "" => false,
            "All" => true,
            other => {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        };
        self.validation = match self.query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                return Err(Status::bad_request(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        let asked = self.query.get("fieldManager");
        let manager = if asked.is_empty() {
            user_agent.split('/').next().unwrap_or_default()
        } else {
            asked
        };
        self.manager = manager.chars().take(128).collect();
        if !asked.is_empty() {
            let mut errors = Vec::new();
            let path = wharf_kube_types::Path::new("fieldManager");
            wharf_kube_types::validate::meta::field_manager(asked, &path, &mut errors);
            if !errors.is_empty() {
                return Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &errors));
            }
        }
        Ok(())
    }

    /// The error that the object is not there.
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.kind.resource, &self.name)
    }
}
