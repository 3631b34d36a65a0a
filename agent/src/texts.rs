//! Every sentence that the agent publishes about a deploy: in the event stream,
//! in its log, and at GitHub. One place, so that one thing has one wording.

use cutover_plan::event::{Cursor, Event, Failure, Finding, Promotion};
use cutover_plan::id::AppName;
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::spec::render_duration;
use cutover_plan::state::{DeployState, Phase};
use cutover_plan::step::{Beside, SeenBy, Step};
use cutover_plan::verdict::{Lack, Verdict};
use jiff::Timestamp;

/// A line that a terminal shows.
const MAX_STATUS: usize = 200;

/// GitHub refuses a longer description.
pub const MAX_DESCRIPTION: usize = 140;

/// An event as a sentence; `before` is the state of the deploy that it came to.
pub fn told(event: &Event, before: Option<&DeployState>) -> String {
    match event {
        Event::Accepted {
            app,
            kind,
            image,
            by,
            window_override,
        } => {
            let by = by
                .as_ref()
                .map_or_else(String::new, |by| format!(" by {by}"));
            let asked = match (kind, image) {
                (Kind::Deploy, Some(image)) => format!("{app}: asked{by} to deploy {image}"),
                (Kind::Deploy | Kind::Rollback, _) => format!("{app}: asked{by} to roll back"),
                (Kind::Retire, _) => {
                    format!("{app}: the time of the release that stands by is over")
                }
                (Kind::Scale, _) => {
                    format!("{app}: its containers are not those of the app's file")
                }
            };
            match window_override {
                Some(why) => format!("{asked}, whatever the deploy windows say: {why}"),
                None => asked,
            }
        }
        Event::Planned { plan } => match plan.steps.len() {
            0 => plan.because.clone(),
            steps => format!(
                "planned {} in {steps} steps: {}",
                plan.release.number, plan.because
            ),
        },
        Event::PlanRefused { failure } => format!("no plan: {}", failure.reason),
        Event::StepStarted { at, attempt, .. } => {
            let again = if *attempt > 1 {
                " again, after a restart of the agent"
            } else {
                ""
            };
            format!("{}{again}", step_text(*at, before))
        }
        Event::StepProgressed { note, .. } => note.clone(),
        Event::StepFinished { at, finding } => {
            let name = step_name(*at, before);
            match finding {
                Finding::Done => format!("{name} done"),
                Finding::Note { text } => format!("{name} done: {text}"),
                Finding::Judged { verdict } => judged(verdict),
                Finding::StandsBy { until: None } => format!("{name} done"),
                Finding::StandsBy { until: Some(until) } => {
                    format!("{name} done: it is kept until {}", moment(*until))
                }
                Finding::Drained {
                    requests: 0,
                    streams: 0,
                    tunnels: 0,
                } => {
                    format!("{name} done: no request is left")
                }
                Finding::Drained {
                    requests,
                    streams,
                    tunnels,
                } => format!(
                    "{name} ended at its deadline: {requests} requests, {streams} streams and {tunnels} tunnels were still open"
                ),
            }
        }
        Event::StepFailed { at, failure } => {
            format!("{} failed: {}", step_name(*at, before), failure.reason)
        }
        Event::TargetHealthy { name, .. } => format!("{name} is healthy"),
        Event::Held { because, until, .. } => {
            format!("{because}: waiting for a person until {}", moment(*until))
        }
        Event::Approved { by, .. } => format!("approved by {by}"),
        Event::Rejected { by, why: None } => format!("rejected by {by}"),
        Event::Rejected { by, why: Some(why) } => format!("rejected by {by}: {why}"),
        Event::HoldExpired { .. } => "nobody decided in time".to_owned(),
        Event::PromoteRequested { by, how, .. } => match how {
            Promotion::Next => format!("{by} did not wait for the end of this step"),
            Promotion::Full => format!("{by} sends all users on"),
        },
        Event::Stalled { .. } => match before.and_then(|state| state.plan.as_ref()) {
            Some(plan) => {
                let limit = render_duration(plan.progress_deadline);
                format!("it got no further for {limit}")
            }
            None => "it got no further for too long".to_owned(),
        },
        Event::AbortRequested { by } => format!("aborted by {by}"),
        Event::SupersedeRequested { by } => format!("the newer deploy {by} takes its place"),
        Event::Ended { outcome } => match before.and_then(|state| state.plan.as_ref()) {
            Some(plan) => format!("{}: {}", plan.release.number, ended(*outcome, plan.kind)),
            None => ended(*outcome, Kind::Deploy).to_owned(),
        },
    }
}

/// What GitHub shows beside a status; none for events that are not reported.
/// `state` is the one after the event. May be longer than GitHub takes: see [`cut`].
pub fn description(event: &Event, state: &DeployState) -> Option<String> {
    let release = state
        .release()
        .map_or_else(|| "the release".to_owned(), |n| n.to_string());
    let reason = || {
        state
            .failure
            .as_ref()
            .map_or("", |failure| failure.reason.as_str())
    };
    match event {
        Event::Accepted {
            window_override: Some(why),
            by,
            ..
        } => {
            let by = by.as_deref().unwrap_or("somebody");
            Some(format!("queued; {by} overrides the deploy windows: {why}"))
        }
        Event::Accepted { .. } => Some("queued".to_owned()),
        Event::Planned { plan } if plan.steps.is_empty() => None,
        Event::Planned { plan } => Some(match plan.kind {
            Kind::Deploy => format!("bringing up {release}; {}", plan.because),
            Kind::Rollback => format!("rolling back to {release}; {}", plan.because),
            Kind::Retire => format!("retiring {release}; {}", plan.because),
            Kind::Scale => format!("scaling {release}; {}", plan.because),
        }),
        Event::StepStarted { at, .. } => Some(watched(state.step(*at), &release)),
        Event::Ended { outcome } => Some(match outcome {
            Outcome::Promoted => match &state.verdict {
                // It stays by the app's policy, which is no proof.
                Some(Verdict::NoVerdict {
                    lack: Lack::Inconclusive,
                    because,
                    ..
                }) => {
                    format!("{release} serves; no better and no worse than before: {because}")
                }
                Some(Verdict::NoVerdict { because, .. }) => {
                    format!("{release} serves; too little to judge it by: {because}")
                }
                Some(Verdict::Good { .. } | Verdict::Bad { .. }) | None => {
                    format!("{release} serves and has proved itself")
                }
            },
            Outcome::Shadowed => format!("{release} was compared and got no users"),
            Outcome::Failed => format!("{release} failed: {}", reason()),
            Outcome::RolledBack => format!("{release} was taken back: {}", reason()),
            // Taken back or left in place: the reason is the same, the claim is not made.
            Outcome::NoVerdict => format!("{release} got no verdict: {}", reason()),
            Outcome::Superseded => format!("{release} was superseded by a newer deploy"),
            Outcome::Aborted => match &state.aborted_by {
                Some(by) => format!("{release} was aborted by {by}"),
                // A person said no, or nobody said yes.
                None => format!("{release} was aborted: {}", reason()),
            },
        }),
        Event::PlanRefused { .. }
        | Event::StepProgressed { .. }
        | Event::StepFinished { .. }
        | Event::StepFailed { .. }
        | Event::TargetHealthy { .. }
        | Event::Held { .. }
        | Event::Approved { .. }
        | Event::Rejected { .. }
        | Event::HoldExpired { .. }
        | Event::PromoteRequested { .. }
        | Event::Stalled { .. }
        | Event::AbortRequested { .. }
        | Event::SupersedeRequested { .. } => None,
    }
}

/// What a release gets while it is watched: only the last watch has all users.
fn watched(step: Option<&Step>, release: &str) -> String {
    let beside = match step {
        Some(Step::Watch { rule, .. }) => rule.beside,
        _ => None,
    };
    match beside {
        None => format!("{release} serves and is being watched"),
        Some(Beside {
            old,
            seen_by: SeenBy::Users,
            ..
        }) => format!("{release} gets a share of the users and is compared with {old}"),
        Some(Beside {
            old,
            seen_by: SeenBy::Nobody,
            ..
        }) => format!("{release} gets copies of requests and is compared with {old}"),
    }
}

/// What a deploy does now, in a few words.
pub fn phase(state: &DeployState) -> String {
    match &state.phase {
        Phase::Accepted => "accepted".to_owned(),
        Phase::Forward { next } => match state.step(Cursor::Forward(*next)) {
            Some(step) => step.to_string(),
            None => "ending".to_owned(),
        },
        Phase::Back { next, .. } => match state.step(Cursor::Back(*next)) {
            Some(step) => format!("taking it back: {step}"),
            None => "ending".to_owned(),
        },
        Phase::Closing { outcome } | Phase::Over { outcome } => outcome.to_string(),
    }
}

/// What the agent does, in a line for systemd: `named` of `total` deploys that
/// are under way, each with what it does.
pub fn agent_status(apps: usize, named: &[(AppName, String)], total: usize) -> String {
    let noun = if apps == 1 { "app" } else { "apps" };
    let mut parts = vec![format!("{apps} {noun}")];
    parts.extend(named.iter().map(|(app, phase)| format!("{app}: {phase}")));
    match total - named.len().min(total) {
        0 if total == 0 => parts.push("no deploy is under way".to_owned()),
        0 => {}
        more => parts.push(format!("and {more} more")),
    }
    // A line feed would begin another message to systemd.
    let line = parts.join("; ").replace(char::is_control, " ");
    cut(&line, MAX_STATUS)
}

/// What a deploy does or waits for, in a few words.
pub fn doing(state: &DeployState) -> String {
    let doing = match &state.waiting {
        Some(waiting) => format!("waits for a person: {}", waiting.because),
        None => phase(state),
    };
    match state.release() {
        Some(release) => format!("{release}, {doing}"),
        None => doing,
    }
}

/// A text cut to `limit` characters, with an ellipsis where something is missing.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

fn step_text(at: Cursor, state: Option<&DeployState>) -> String {
    match state.and_then(|state| state.step(at)) {
        Some(step) => format!("{}{step}", back(at)),
        None => step_name(at, state),
    }
}

fn step_name(at: Cursor, state: Option<&DeployState>) -> String {
    match (at, state.and_then(|state| state.step(at))) {
        (_, Some(step)) => format!("{}{}", back(at), step.name()),
        (Cursor::Forward(index), None) => format!("step {}", index + 1),
        (Cursor::Back(index), None) => format!("step {} of the way back", index + 1),
    }
}

fn back(at: Cursor) -> &'static str {
    match at {
        Cursor::Forward(_) => "",
        Cursor::Back(_) => "way back: ",
    }
}

/// A point in time for people, to the second.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn judged(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Good { because, .. } => format!("it is good: {because}"),
        Verdict::Bad { because, .. } => format!("it is bad: {because}"),
        Verdict::NoVerdict { because, .. } => {
            format!("no verdict, it stays by the app's policy: {because}")
        }
    }
}

fn ended(outcome: Outcome, kind: Kind) -> &'static str {
    match (outcome, kind) {
        (Outcome::Promoted, Kind::Deploy) => "promoted",
        (Outcome::Promoted, Kind::Rollback) => "rolled back to it",
        (Outcome::Promoted, Kind::Retire) => "retired",
        (Outcome::Promoted, Kind::Scale) => "scaled",
        (Outcome::Shadowed, _) => "compared, and no user got to it",
        (Outcome::Failed, _) => "failed",
        (Outcome::Aborted, _) => "aborted",
        (Outcome::Superseded, _) => "superseded",
        (Outcome::RolledBack, _) => "taken back",
        (Outcome::NoVerdict, _) => "there was no verdict",
    }
}

/// The reason and the hint of a failure in one text.
pub fn failure(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{} (hint: {hint})", failure.reason),
        None => failure.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use cutover_plan::verdict::{Figures, Lack};

    use super::*;

    #[test]
    fn a_release_that_nobody_judged_is_not_told_to_have_proved_itself() {
        let accepted = Event::Accepted {
            app: "shop".parse().unwrap(),
            kind: Kind::Rollback,
            image: None,
            by: None,
            window_override: None,
        };
        let mut state = DeployState::begin(&accepted).unwrap();
        let ended = Event::Ended {
            outcome: Outcome::Promoted,
        };
        let mut told = |verdict| {
            state.verdict = Some(verdict);
            description(&ended, &state).unwrap()
        };
        let because = "0 requests in 1m".to_owned();
        let figures = Figures::default();
        let nobody = told(Verdict::NoVerdict {
            lack: Lack::InsufficientData,
            because,
            figures: figures.clone(),
        });
        assert_eq!(
            nobody,
            "the release serves; too little to judge it by: 0 requests in 1m"
        );
        let because = "0 of 90 requests failed".to_owned();
        let good = told(Verdict::Good { because, figures });
        assert_eq!(good, "the release serves and has proved itself");
    }

    #[test]
    fn the_agents_status_is_one_line_that_names_what_is_under_way() {
        let app = |name: &str| name.parse::<AppName>().unwrap();
        assert_eq!(agent_status(1, &[], 0), "1 app; no deploy is under way");
        let two = [
            (app("blog"), "v3, pull\nREADY=1".to_owned()),
            (app("shop"), "accepted".to_owned()),
        ];
        assert_eq!(
            agent_status(9, &two, 4),
            "9 apps; blog: v3, pull READY=1; shop: accepted; and 2 more"
        );
        let long = [(app("shop"), "x".repeat(500))];
        assert_eq!(agent_status(1, &long, 1).chars().count(), MAX_STATUS);
    }

    #[test]
    fn a_cut_text_keeps_the_limit_in_characters_not_bytes() {
        assert_eq!(cut("short", 140), "short");
        let long = "ä".repeat(200);
        assert_eq!(cut(&long, 140).chars().count(), 140);
        assert!(cut(&long, 140).ends_with('…'));
    }
}
