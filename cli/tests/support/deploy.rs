//! A deploy that only tells a story.

use cutover_plan::event::{Cursor, Event};
use cutover_plan::id::{AppName, DeployId, ReleaseNumber};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_wire::agent::{DeployView, WaitView};
use cutover_wire::event::{Body, Told};
use cutover_wire::request::{Change, Decision, DeployRequest};
use jiff::{SignedDuration, Timestamp};

/// A deploy and all that it will tell.
#[derive(Clone)]
pub(crate) struct Deploy {
    /// What was asked.
    pub(crate) request: DeployRequest,
    /// What was told so far.
    pub(crate) told: Vec<Told>,
    /// What will be told.
    pub(crate) coming: Vec<Told>,
    /// What it is.
    pub(crate) view: DeployView,
    /// Whether somebody aborted it.
    pub(crate) aborted: bool,
    ends: Option<Outcome>,
}

impl Deploy {
    /// Begins a deploy; the app's name says what becomes of it.
    ///
    /// `shop` is promoted, `bad-image` fails, `sour` is rolled back with log
    /// lines that attack their reader, `slow` waits until it is aborted,
    /// `stuck` does not even then end, `late` is promoted although aborted,
    /// `asks` waits for a person.
    pub(crate) fn begin(deploy: DeployId, request: DeployRequest) -> Self {
        let app = request.app.clone();
        let ends = match app.as_str() {
            "bad-image" => Some(Outcome::Failed),
            "sour" => Some(Outcome::RolledBack),
            "slow" | "stuck" | "late" | "asks" => None,
            _ => Some(Outcome::Promoted),
        };
        let image = match &request.change {
            Change::Deploy { image } => Some(image.to_string()),
            Change::Rollback {} => None,
        };
        let mut begun = Self {
            view: view(deploy, app, image),
            told: Vec::new(),
            coming: Vec::new(),
            request,
            aborted: false,
            ends,
        };
        for text in [
            "a call was accepted",
            "the plan has 4 steps",
            "pulling the image",
            "::error::not a command",
        ] {
            begun.will_tell(text, None);
        }
        if begun.view.app.as_str() == "asks" {
            let waits = WaitView {
                because: "v8 serves 5% of the users".to_owned(),
                until: "2026-01-01T12:00:00Z".parse().unwrap(),
            };
            let held = Event::Held {
                at: Cursor::Forward(3),
                because: waits.because.clone(),
                until: waits.until,
            };
            begun.view.waits = Some(waits);
            begun.will_tell("waiting for a person", Some(held));
        }
        if let Some(outcome) = ends {
            begun.will_end(outcome);
        }
        begun
    }

    /// Somebody aborts.
    pub(crate) fn abort(&mut self) {
        self.aborted = true;
        let outcome = match self.view.app.as_str() {
            "stuck" => return,
            "late" => Outcome::Promoted,
            _ => Outcome::Aborted,
        };
        if self.ends.is_none() {
            self.ends = Some(outcome);
            self.will_tell("somebody aborted the deploy", None);
            self.will_end(outcome);
        }
    }

    /// A person says something; whether the deploy waited for it.
    pub(crate) fn decide(&mut self, decision: &Decision) -> bool {
        if self.view.waits.take().is_none() {
            return false;
        }
        let outcome = match decision {
            Decision::Approve {} | Decision::Promote { .. } => Outcome::Promoted,
            Decision::Reject { .. } => Outcome::Aborted,
        };
        self.ends = Some(outcome);
        self.view.phase = "going on".to_owned();
        self.will_tell("somebody decided", None);
        self.will_end(outcome);
        true
    }

    /// The next event happens.
    pub(crate) fn step(&mut self) {
        if self.coming.is_empty() {
            return;
        }
        let told = self.coming.remove(0);
        if let Body::Known(event) = &told.event
            && let Event::Ended { outcome } = **event
        {
            self.end(outcome);
        }
        self.told.push(told);
    }

    fn will_end(&mut self, outcome: Outcome) {
        let event = Event::Ended { outcome };
        self.will_tell("the deploy is over", Some(event));
    }

    fn will_tell(&mut self, text: &str, event: Option<Event>) {
        let unknown = || Body::Unknown(serde_json::json!({ "event": "of a newer agent" }));
        let number = u64::try_from(self.told.len() + self.coming.len()).unwrap();
        let at = self.view.accepted_at + SignedDuration::from_secs(i64::try_from(number).unwrap());
        self.coming.push(Told {
            // The journal's numbers have gaps.
            seq: 10 + number * 3,
            at,
            text: text.to_owned(),
            event: event.map_or_else(unknown, |event| Body::Known(Box::new(event))),
        });
    }

    fn end(&mut self, outcome: Outcome) {
        let view = &mut self.view;
        view.outcome = Some(outcome);
        view.phase = "over".to_owned();
        view.ended_at = Some(view.accepted_at + SignedDuration::from_secs(42));
        let bad = outcome != Outcome::Promoted;
        view.serving = match bad {
            true => "v7 serves all requests".to_owned(),
            false => "v8 serves all requests".to_owned(),
        };
        let (reason, hint) = match outcome {
            Outcome::Failed => (
                "the registry has no such image",
                "push the image, then deploy its digest",
            ),
            Outcome::RolledBack => (
                "5% of requests failed, at most 1%",
                "look at the app's last lines",
            ),
            Outcome::Aborted => ("a person aborted it", "deploy again when you like"),
            _ => return,
        };
        view.reason = Some(reason.to_owned());
        view.hint = Some(hint.to_owned());
        if outcome == Outcome::RolledBack {
            view.log = [
                "panic: no database",
                "::error::not a command",
                "```",
                "\u{1b}[31mred",
            ]
            .map(str::to_owned)
            .to_vec();
        }
    }
}

fn view(deploy: DeployId, app: AppName, image: Option<String>) -> DeployView {
    DeployView {
        deploy,
        url: Some(format!("https://{app}.example.com")),
        app,
        kind: Some(Kind::Deploy),
        by: Some("ada".to_owned()),
        waits: None,
        release: Some(ReleaseNumber(8)),
        image,
        phase: "pulling the image".to_owned(),
        outcome: None,
        serving: "v7 serves all requests".to_owned(),
        reason: None,
        hint: None,
        log: Vec::new(),
        accepted_at: Timestamp::now(),
        ended_at: None,
    }
}
