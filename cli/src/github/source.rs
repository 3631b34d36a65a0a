//! Which commit a workflow deploys, and where its run is seen. Pure.
//!
//! GitHub shows a deployment on a pull request only when its commit is the
//! head of the pull request; `GITHUB_SHA` of such a run is a merge commit that
//! nobody else sees, and the one of a `workflow_run` is the default branch's.

use serde_json::Value;

/// Where an event names the commit that it is about, the most exact first. A
/// `deployment` event may also carry the `workflow_run` that made it, so the
/// deployment's own commit stands before it.
const PLACES: [&str; 4] = [
    "/pull_request/head/sha",
    "/deployment/sha",
    "/workflow_run/head_sha",
    "/merge_group/head_sha",
];

/// The commit of an event, else the run's.
pub(super) fn sha(event: &Value, run: Option<&str>) -> Option<String> {
    let named = PLACES
        .iter()
        .filter_map(|place| event.pointer(place)?.as_str());
    let mut all = named.chain(run);
    all.find(|sha| is_sha(sha)).map(str::to_owned)
}

/// Where the run is seen, and which attempt of it.
pub(super) fn run_url(
    server: Option<&str>,
    repository: Option<&str>,
    run: Option<&str>,
    attempt: Option<&str>,
) -> Option<String> {
    let (server, repository, run) = (server?.trim_end_matches('/'), repository?, run?);
    let mut url = format!("{server}/{repository}/actions/runs/{run}");
    if let Some(attempt) = attempt {
        url.push_str("/attempts/");
        url.push_str(attempt);
    }
    Some(url)
}

fn is_sha(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    [40, 64].contains(&text.len()) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_commit_is_the_one_that_people_see() {
        let [a, b] = ["a".repeat(40), "b".repeat(40)];
        let run = "f".repeat(40);
        let check = |event: Value, expected: &str| {
            assert_eq!(
                sha(&event, Some(&run)).as_deref(),
                Some(expected),
                "{event}"
            );
        };
        check(
            json!({"pull_request": {"head": {"sha": a}, "merge_commit_sha": b}}),
            &a,
        );
        check(json!({"workflow_run": {"head_sha": a}}), &a);
        check(json!({"merge_group": {"head_sha": a, "base_sha": b}}), &a);
        check(json!({"deployment": {"sha": a}}), &a);
        check(
            json!({"deployment": {"sha": a}, "workflow_run": {"head_sha": b}}),
            &a,
        );
        check(json!({"deployment": {"sha": a}, "workflow_run": null}), &a);
        check(json!({"head_commit": {"id": a}, "after": b}), &run);
        check(json!({"schedule": "0 0 * * *"}), &run);
        check(json!({"pull_request": {"head": {"sha": "main"}}}), &run);
        check(json!({"pull_request": {"head": null}}), &run);
        check(json!({"pull_request": 7}), &run);
        check(Value::Null, &run);
        assert_eq!(sha(&Value::Null, None), None);
        assert_eq!(sha(&Value::Null, Some("refs/heads/main")), None);
    }

    #[test]
    fn a_run_is_seen_where_its_server_is() {
        let server = Some("https://git.example.com/");
        let url = run_url(server, Some("acme/shop"), Some("7"), Some("2"));
        assert_eq!(
            url.as_deref(),
            Some("https://git.example.com/acme/shop/actions/runs/7/attempts/2")
        );
        let url = run_url(
            Some("https://github.com"),
            Some("acme/shop"),
            Some("7"),
            None,
        );
        assert_eq!(
            url.as_deref(),
            Some("https://github.com/acme/shop/actions/runs/7")
        );
        assert_eq!(run_url(None, Some("acme/shop"), Some("7"), None), None);
    }
}
