//! Lists: tags of a repository, repositories of the registry; in lexical order, in pages.

use axum::http::header;
use serde_json::json;

use crate::Registry;
use crate::error::{Outcome, Refusal};
use crate::request::{Query, json as json_response};

const PAGE_MAX: usize = 10_000;

/// `GET …/tags/list`.
pub fn tags(registry: &Registry, name: &str, query: &Query) -> Outcome {
    if !registry.storage.has_repository(name) {
        return Err(Refusal::name_unknown(name));
    }
    let (page, more) = page(registry.storage.tags(name)?, query)?;
    respond(
        &format!("/v2/{name}/tags/list"),
        &page,
        more,
        json!({"name": name, "tags": page}),
    )
}

/// `GET /v2/_catalog`.
pub fn catalog(registry: &Registry, query: &Query) -> Outcome {
    let (page, more) = page(registry.storage.names()?, query)?;
    respond("/v2/_catalog", &page, more, json!({"repositories": page}))
}

/// At most `n` entries after `last`; the second value: how many to ask for next, where there are more.
fn page(all: Vec<String>, query: &Query) -> Outcome<(Vec<String>, Option<usize>)> {
    let number = match query.get("n") {
        None => PAGE_MAX,
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Refusal::page_invalid(format!("n={text:?} is not a number")))?
            .min(PAGE_MAX),
    };
    let last = query.get("last");
    let mut rest = all
        .into_iter()
        .filter(|entry| last.is_none_or(|last| entry.as_str() > last));
    let page: Vec<String> = rest.by_ref().take(number).collect();
    let more = (rest.next().is_some() && !page.is_empty()).then_some(number);
    Ok((page, more))
}

fn respond(path: &str, page: &[String], more: Option<usize>, body: serde_json::Value) -> Outcome {
    let link = more.zip(page.last()).map(|(number, last)| {
        (
            header::LINK,
            format!("<{path}?n={number}&last={last}>; rel=\"next\""),
        )
    });
    json_response(link.as_slice(), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> (Vec<String>, Option<usize>) {
        let all = ["a", "b", "c"].map(str::to_owned).to_vec();
        page(all, &Query::of(&format!("/?{query}").parse().unwrap())).unwrap()
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(ask("n=2"), (vec!["a".into(), "b".into()], Some(2)));
        assert_eq!(ask("n=2&last=b"), (vec!["c".into()], None));
        assert_eq!(ask("n=0"), (vec![], None));
        assert_eq!(ask("").0.len(), 3);
    }
}
