//! TokenReview and SelfSubjectReview: asking the server who someone is.

use serde_json::{Value, json};
use wharf_kube_types::object;

use super::User;
use crate::api::Api;
use crate::clock;

/// Answers a `TokenReview`.
pub fn token(api: &Api, mut review: Value) -> Value {
    let audiences: Vec<String> = object::list(&review, "spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let token = object::text(&review, "spec.token");
    let status = match api.authenticator.token(api, token, &audiences) {
        Ok(accepted) => json!({
            "authenticated": true, "user": accepted.user.to_value(), "audiences": accepted.audiences,
        }),
        Err(why) => json!({"authenticated": false, "user": {}, "error": why}),
    };
    review["status"] = status;
    review["metadata"] = json!({"creationTimestamp": null});
    review
}

/// Answers a `SelfSubjectReview`.
pub fn own(user: &User, mut review: Value) -> Value {
    review["metadata"] = json!({"creationTimestamp": clock::now_text()});
    review["status"] = json!({"userInfo": user.to_value()});
    review
}
