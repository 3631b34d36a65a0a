//! What the engine tells by itself: that a container ended, and how. It
//! forgets all but the last few hundred such news, and all of them when it is
//! restarted. So they hasten a look and explain what is seen; what is true is
//! found by looking.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use cutover_plan::id::AppName;
use futures_util::StreamExt as _;
use jiff::Timestamp;

use crate::containers::{Container, ContainerError, KILLED, LastEnd};

use super::connection::{Connection, QUESTION};
use super::labels;

/// How long the engine may take to look into its memory: it only explains.
const MEMORY: Duration = Duration::from_secs(5);

/// What the news of memory may take beyond those of the end; and what Podman needs
/// to read its own past, which it leaves when the end of the question has come.
const LATER: Duration = Duration::from_millis(300);

/// How a container's end is told.
const DIE: &str = "die";

/// How Podman wants to be asked for it.
const DIED: &str = "died";

/// Before an engine that tells nothing is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// How the container ended before it was started anew, if the engine knows. Where it
/// tells nothing, or of one that was killed nothing of memory, it gets a moment more.
pub(super) async fn last_end(
    engine: &Connection,
    container: &Container,
) -> Result<Option<LastEnd>, ContainerError> {
    match told_end(engine, container, Duration::ZERO).await? {
        Some(end) if end.code != KILLED || end.out_of_memory => Ok(Some(end)),
        _ => told_end(engine, container, LATER).await,
    }
}

async fn told_end(
    engine: &Connection,
    container: &Container,
    longer: Duration,
) -> Result<Option<LastEnd>, ContainerError> {
    let end = Timestamp::now() + longer;
    let end = format!("{}.{:09}", end.as_second(), end.subsec_nanosecond());
    let options = EventsOptions {
        since: Some("0".to_owned()),
        until: Some(end),
        filters: Some(about(
            ("container", &container.id),
            &["start", "oom", DIE, DIED],
        )),
    };
    let what = format!("asking how the container {} ended", container.name);
    let ends = engine.call(what, MEMORY, async |client| {
        let mut story = Story::default();
        let mut news = client.events(Some(options));
        while let Some(told) = news.next().await {
            story.hear(&told?);
        }
        Ok(story.end)
    });
    Ok(ends.await?)
}

/// Completes when something happens to a container of the app that is worth a
/// look: it starts, ends, or its health changes.
pub(super) async fn stirred(engine: &Connection, app: &AppName) {
    let label = format!("{}={app}", labels::APP);
    let worth = ["start", "oom", DIE, DIED, "destroy", "health_status"];
    loop {
        let options = EventsOptions {
            filters: Some(about(("label", &label), &worth)),
            ..EventsOptions::default()
        };
        if let Ok(client) = engine.client("listening to the container engine", QUESTION)
            && let Some(Ok(_)) = client.events(Some(options)).next().await
        {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn about((key, value): (&str, &str), events: &[&str]) -> HashMap<String, Vec<String>> {
    let list = |values: &[&str]| values.iter().map(|&one| one.to_owned()).collect();
    HashMap::from([
        ("type".to_owned(), list(&["container"])),
        (key.to_owned(), list(&[value])),
        ("event".to_owned(), list(events)),
    ])
}

/// The lives of one container, as they are told.
#[derive(Default)]
struct Story {
    /// Since the last start: the engine tells of memory by another way than of
    /// ends, before them or a moment later.
    out_of_memory: bool,
    end: Option<LastEnd>,
    ended: bool,
}

impl Story {
    fn hear(&mut self, told: &EventMessage) {
        match told.action.as_deref() {
            Some("start") => {
                self.ended = false;
                self.out_of_memory = false;
            }
            Some("oom") => {
                self.out_of_memory = true;
                if let Some(end) = &mut self.end
                    && (self.ended || end.code == KILLED)
                {
                    end.out_of_memory = true;
                }
            }
            Some(DIE) => {
                let attributes = told.actor.as_ref().and_then(|one| one.attributes.as_ref());
                let code = attributes.and_then(|all| all.get("exitCode")?.parse().ok());
                self.ended = true;
                self.end = code.map(|code| LastEnd {
                    code,
                    out_of_memory: self.out_of_memory,
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(action: &str, code: Option<&str>) -> EventMessage {
        let json = serde_json::json!({
            "Action": action,
            "Actor": { "Attributes": code.map(|code| HashMap::from([("exitCode", code)])) },
        });
        serde_json::from_value(json).unwrap()
    }

    fn check(story: &[(&str, Option<&str>)], expected: Option<(i64, bool)>) {
        let mut heard = Story::default();
        for (action, code) in story {
            heard.hear(&told(action, *code));
        }
        let end = heard.end.map(|end| (end.code, end.out_of_memory));
        assert_eq!(end, expected, "{story:?}");
    }

    #[test]
    fn the_newest_end_counts_and_memory_belongs_to_its_own_life() {
        check(&[], None);
        check(&[("start", None)], None);
        check(&[("start", None), ("die", Some("1"))], Some((1, false)));
        let killed = [("start", None), ("oom", None), ("die", Some("137"))];
        check(&killed, Some((137, true)));
        let late = [("start", None), ("die", Some("137")), ("oom", None)];
        check(&late, Some((137, true)));
        let later = [late[0], late[1], ("start", None), ("oom", None)];
        check(&later, Some((137, true)));
        let mut twice = killed.to_vec();
        twice.extend([("start", None), ("die", Some("2")), ("start", None)]);
        check(&twice, Some((2, false)));
        check(&[("die", None)], None);
        check(&[("die", Some("many"))], None);
    }
}
