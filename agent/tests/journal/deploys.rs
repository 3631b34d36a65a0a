//! Deploys for these tests, written in a line.

use cutover_agent::forge::{DeploymentState, Message};
use cutover_agent::journal::{Acceptance, Journal, Record as _};
use cutover_agent::letter::Letter;
use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn id(number: u64) -> DeployId {
    DeployId::new(number, [7; 10])
}

pub(crate) fn app(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

pub(crate) fn accepted(name: &str) -> Event {
    Event::Accepted {
        app: app(name),
        kind: Kind::Deploy,
        image: None,
        by: Some("ada".to_owned()),
        window_override: None,
    }
}

pub(crate) fn aborted(by: &str) -> Event {
    Event::AbortRequested { by: by.to_owned() }
}

pub(crate) fn ended() -> Event {
    let outcome = Outcome::Promoted;
    Event::Ended { outcome }
}

pub(crate) fn message(deploy: u64, environment: &str, description: &str) -> Message {
    Message {
        deploy: id(deploy),
        repository: "acme/shop".to_owned(),
        sha: "0".repeat(40),
        environment: environment.to_owned(),
        state: DeploymentState::InProgress,
        description: description.to_owned(),
        environment_url: None,
        log_url: None,
        at: at(0),
    }
}

pub(crate) fn letters(messages: &[Message]) -> Vec<Letter> {
    messages.iter().cloned().map(Letter::from).collect()
}

pub(crate) fn accept(
    journal: &Journal,
    number: u64,
    name: &str,
    messages: &[Message],
) -> Acceptance {
    let call = format!("call-{number}");
    let when = at(i64::try_from(number).unwrap());
    let source = Source {
        actor: Some("ada".to_owned()),
        ..Source::default()
    };
    let letters = letters(messages);
    journal
        .accept(
            Some(&call),
            &id(number),
            when,
            &accepted(name),
            &source,
            &letters,
        )
        .unwrap()
}

pub(crate) fn append(
    journal: &Journal,
    number: u64,
    second: i64,
    event: &Event,
    messages: &[Message],
) -> u64 {
    let letters = letters(messages);
    journal
        .append(
            &id(number),
            at(second),
            event,
            &Releases::default(),
            &letters,
        )
        .unwrap()
}

/// A deploy that was accepted at the second of its number and ended at `second`.
pub(crate) fn whole(journal: &Journal, number: u64, name: &str, second: i64) {
    accept(journal, number, name, &[]);
    append(journal, number, second, &ended(), &[]);
}
