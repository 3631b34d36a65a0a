//! The event stream of a deploy, as the agent tells it.
//!
//! Each server-sent event has the id `seq`, the name `deploy` and a [`Told`]
//! as data. A reader that lost the connection comes back with `Last-Event-ID`
//! and gets what followed. The last event of a stream is `Ended`; after it the
//! agent sends one event named `view` with a [`crate::agent::DeployView`] and
//! closes the stream.

use cutover_plan::event::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of the events of the stream.
pub const DEPLOY_EVENT: &str = "deploy";
/// The name of the closing event, whose data is the deploy's last view.
pub const VIEW_EVENT: &str = "view";

/// An event as it is told to a reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its number in the journal; grows, with gaps.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The event as a sentence.
    pub text: String,
    /// The event itself.
    pub event: Body,
}

/// An event that this program knows, or one of a newer agent that it can only show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// Understood.
    Known(Box<Event>),
    /// Kept as it came.
    Unknown(serde_json::Value),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_newer_agent_is_kept_and_shown() {
        let text = r#"{"seq":7,"at":"2026-01-02T03:04:05Z","text":"the moon was asked","event":{"event":"moon_asked","phase":"full"}}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!(told.text, "the moon was asked");
        assert!(matches!(told.event, Body::Unknown(_)));
        let again: Told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(again, told);
    }
}
