//! The event stream of a deploy, as the agent tells it.
//!
//! Each server-sent event has the id `seq`, the name `deploy` and a [`Told`]
//! as data. A reader that lost the connection comes back with `Last-Event-ID`
//! and gets what followed. The last event of a stream is `Ended`; after it the
//! agent sends one event named `view` with a [`crate::agent::DeployView`] and
//! closes the stream.

use cutover_plan::event::Event;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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

/// An event that this program knows, or one of a newer agent that it can only
/// show. An event of a known name counts as known if nothing in it is lost by
/// reading it: otherwise what was added could turn its meaning round.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// Understood.
    Known(Box<Event>),
    /// Kept as it came.
    Unknown(Value),
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let known = Event::deserialize(&value).ok();
        let whole = known.filter(|event| {
            let kept = serde_json::to_value(event);
            kept.is_ok_and(|kept| is_within(&value, &kept))
        });
        Ok(whole.map_or_else(
            || Self::Unknown(value),
            |event| Self::Known(Box::new(event)),
        ))
    }
}

/// Whether everything that is in `part` is in `whole` too. What an older agent
/// left out has its default there.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|kept| is_within(value, kept))),
        (Value::Array(part), Value::Array(whole)) => {
            let pairs = || part.iter().zip(whole);
            part.len() == whole.len() && pairs().all(|(part, whole)| is_within(part, whole))
        }
        _ => part == whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_plan::event::{Cursor, Failure, FailureClass, Finding, Promotion};
    use cutover_plan::id::DeployId;
    use cutover_plan::outcome::Outcome;
    use cutover_plan::plan::Kind;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_event_of_a_newer_agent_is_kept_and_shown() {
        let text = r#"{"seq":7,"at":"2026-01-02T03:04:05Z","text":"the moon was asked","event":{"event":"moon_asked","phase":"full"}}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!(told.text, "the moon was asked");
        assert!(matches!(told.event, Body::Unknown(_)));
        let again: Told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(again, told);
    }

    /// Wraps an event as an agent tells it, and reads it.
    fn told(event: &Value) -> Told {
        let told =
            json!({"seq": 7, "at": "2026-01-02T03:04:05Z", "text": "it was so", "event": event});
        serde_json::from_value(told).unwrap()
    }

    /// Events of known names that hold something new.
    fn newer() -> Vec<Value> {
        let failure = |class: &str| json!({"class": class, "reason": "r", "hint": null, "log": []});
        vec![
            json!({"event": "ended", "outcome": "promoted", "but": "not yet"}),
            json!({"event": "ended", "outcome": "paused"}),
            json!({"event": "ended"}),
            json!({"event": "ended", "outcome": 7}),
            json!({"event": "step_failed", "at": {"forward": 1}, "failure": failure("weather")}),
            json!({"event": "step_failed", "at": {"sideways": 1}, "failure": failure("host")}),
            json!({"event": "step_finished", "at": {"back": 0}, "finding": {"found": "gold"}}),
            json!({"event": "step_finished", "at": {"back": 0}, "finding": {"found": "done", "in": "time"}}),
            json!({"event": "planned", "plan": {"steps": [{"step": "fly"}]}}),
            json!({"event": 1}),
            json!({}),
            json!(["ended"]),
            json!("ended"),
            json!(null),
            json!(1.5),
        ]
    }

    #[test]
    fn what_is_new_in_an_event_of_a_known_name_is_kept_with_its_text() {
        for event in newer() {
            let told = told(&event);
            assert_eq!(told.text, "it was so");
            assert_eq!(told.event, Body::Unknown(event.clone()), "{event}");
            assert_eq!(serde_json::to_value(&told).unwrap()["event"], event);
        }
    }

    #[test]
    fn what_an_older_agent_left_out_is_known_still() {
        let failure = json!({"class": "host", "reason": "r", "log": []});
        let event = json!({"event": "step_failed", "at": {"forward": 1}, "failure": failure});
        assert!(matches!(told(&event).event, Body::Known(_)));
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (0_i64..4_000_000_000).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let text = || ".{0,20}";
        let at = || {
            prop_oneof![
                any::<usize>().prop_map(Cursor::Forward),
                any::<usize>().prop_map(Cursor::Back),
            ]
        };
        let class = prop::sample::select(vec![
            FailureClass::Release,
            FailureClass::Request,
            FailureClass::Host,
            FailureClass::NoVerdict,
            FailureClass::Person,
        ]);
        let hint = prop::option::of(text());
        let log = prop::collection::vec(text(), 0..3);
        let failure = (class, text(), hint, log).prop_map(|(class, reason, hint, log)| Failure {
            class,
            reason,
            hint,
            log,
        });
        let finding = prop_oneof![
            Just(Finding::Done),
            prop::option::of(time()).prop_map(|until| Finding::StandsBy { until }),
            text().prop_map(|text| Finding::Note { text }),
            any::<[u64; 3]>().prop_map(|[requests, streams, tunnels]| Finding::Drained {
                requests,
                streams,
                tunnels,
            }),
        ];
        let outcome = prop::sample::select(Outcome::ALL.to_vec());
        prop_oneof![
            prop::option::of(text()).prop_map(|by| Event::Accepted {
                app: "shop".parse().unwrap(),
                kind: Kind::Rollback,
                image: None,
                window_override: by.clone(),
                by,
            }),
            (at(), text(), time()).prop_map(|(at, because, until)| Event::Held {
                at,
                because,
                until,
            }),
            (at(), text(), time()).prop_map(|(at, name, time)| Event::TargetHealthy {
                at,
                name,
                time,
            }),
            (text(), time()).prop_map(|(by, time)| Event::Approved { by, time }),
            (text(), prop::option::of(text())).prop_map(|(by, why)| Event::Rejected { by, why }),
            time().prop_map(|time| Event::HoldExpired { time }),
            (text(), time()).prop_map(|(by, time)| Event::PromoteRequested {
                by,
                how: Promotion::Full,
                time,
            }),
            time().prop_map(|time| Event::Stalled { time }),
            any::<[u8; 10]>().prop_map(|chance| Event::SupersedeRequested {
                by: DeployId::new(7, chance),
            }),
            failure
                .clone()
                .prop_map(|failure| Event::PlanRefused { failure }),
            (at(), any::<u32>(), time())
                .prop_map(|(at, attempt, since)| { Event::StepStarted { at, attempt, since } }),
            (at(), text()).prop_map(|(at, note)| Event::StepProgressed { at, note }),
            (at(), finding).prop_map(|(at, finding)| Event::StepFinished { at, finding }),
            (at(), failure).prop_map(|(at, failure)| Event::StepFailed { at, failure }),
            text().prop_map(|by| Event::AbortRequested { by }),
            outcome.prop_map(|outcome| Event::Ended { outcome }),
        ]
    }

    proptest! {
        #[test]
        fn every_event_of_ours_is_known_and_reads_back_the_same(event in any_event()) {
            let json = serde_json::to_value(&event).unwrap();
            let told = told(&json);
            prop_assert_eq!(&told.event, &Body::Known(Box::new(event)));
            prop_assert_eq!(&serde_json::to_value(&told).unwrap()["event"], &json);
        }

        #[test]
        fn something_new_anywhere_in_an_event_makes_it_unknown_and_is_kept(
            event in any_event(),
            pick in any::<prop::sample::Index>(),
            value in prop_oneof![Just(json!(false)), Just(json!({"a": 1})), Just(json!(null))],
        ) {
            let mut json = serde_json::to_value(&event).unwrap();
            let mut places = vec![String::new()];
            for inner in ["/failure", "/finding"] {
                if json.pointer(inner).is_some_and(Value::is_object) {
                    places.push(inner.to_owned());
                }
            }
            let place = pick.get(&places);
            let object = json.pointer_mut(place).unwrap().as_object_mut().unwrap();
            object.insert("moon".to_owned(), value);
            let told = told(&json);
            prop_assert_eq!(&told.event, &Body::Unknown(json.clone()));
            prop_assert_eq!(&serde_json::to_value(&told).unwrap()["event"], &json);
        }
    }
}
