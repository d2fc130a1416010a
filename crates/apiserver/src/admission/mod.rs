//! Admission: what changes objects before they are validated, and what refuses them after.

pub mod allocate;
mod kinds;
mod lifecycle;
mod limit_range;
mod matching;
mod mutation;
mod pod_security;
mod pods;
mod policy;
pub mod quota;
pub mod webhook;

use serde_json::Value;
use wharf_kube_types::Status;

use crate::authz::escalation;
use crate::call::Call;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object is made.
    Create,
    /// An object is changed.
    Update,
    /// An object is deleted.
    Delete,
    /// Someone connects to what an object stands for.
    Connect,
}

impl Operation {
    /// The word in webhooks' requests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What is to be judged.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// What is being done.
    pub operation: Operation,
    /// The object as it would be; nothing for a deletion.
    pub object: Option<&'a mut Value>,
    /// The object as it is; nothing for a creation.
    pub old: Option<&'a Value>,
}

impl<'a> Attributes<'a> {
    /// Of an operation.
    pub fn new(
        operation: Operation,
        object: Option<&'a mut Value>,
        old: Option<&'a Value>,
    ) -> Self {
        Self {
            operation,
            object,
            old,
        }
    }
}

/// Lets plugins and webhooks change the object, and refuse it early.
///
/// # Errors
/// Who refused it.
pub async fn change(call: &mut Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    lifecycle::check(call, what).await?;
    limit_range::fill(call, what)?;
    pods::fill(call, what).await?;
    kinds::fill(call, what)?;
    allocate::fill(call, what)?;
    let policies = mutation::mutate(call, what, mutation::Round::First)?;
    let webhooks = webhook::mutate(call, what).await?;
    if webhooks || policies.later {
        mutation::mutate(call, what, mutation::Round::Again)?;
    }
    if webhooks || policies.changed {
        // Once more: what was made may lack what these fill in.
        limit_range::fill(call, what)?;
        pods::fill(call, what).await?;
        kinds::fill(call, what)?;
    }
    Ok(())
}

/// Lets plugins and webhooks refuse the object in its final form.
///
/// # Errors
/// Who refused it.
pub async fn check(call: &mut Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if what.operation == Operation::Delete {
        lifecycle::check(call, what).await?;
    }
    if let Some(object) = &what.object {
        escalation::check(call, object, what.old)?;
    }
    kinds::check(call, what)?;
    limit_range::check(call, what)?;
    pod_security::check(call, what)?;
    policy::check(call, what)?;
    webhook::validate(call, what).await?;
    // Last, so that nothing is counted that someone else refuses.
    quota::check(call, what).await
}

/// Lets webhooks and policies judge a connection to what an object stands for.
///
/// # Errors
/// Who refused it.
pub async fn connect(call: &mut Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    webhook::mutate(call, what).await?;
    policy::check(call, what)?;
    webhook::validate(call, what).await
}
