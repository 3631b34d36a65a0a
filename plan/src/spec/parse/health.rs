//! `[health]` and `[watch]`: when a release may get requests, and when it is bad.

use super::bounds::{EXTENDED, GATE, INTERVAL, LATENCY, MINUTE, PERSON, REQUESTS, WATCH, seconds};
use super::{container, forms};
use crate::spec::reader::{Fault, Table, Value};
use crate::spec::{DockerHealth, HealthSpec, OnNoVerdict, Rate, WatchSpec, render_duration};
use crate::step::Question;
use crate::verdict::canary::CanaryRule;

pub(super) fn health(table: &mut Table<'_>) -> Option<HealthSpec> {
    let question = question(table);
    let interval = table.or_default("interval", seconds(1), |v| v.duration(INTERVAL));
    let timeout = table.or_default("timeout", seconds(5), |v| v.duration(GATE));
    // More than the longest deadline has room for is refused below, with the deadline.
    let successes = table.or_default("successes", 2, |v| v.integer(1..=u32::MAX));
    let deadline = table.or_default("deadline", MINUTE, |v| v.duration(GATE));
    let docker = table.or_default("docker", DockerHealth::Ignore, |v| {
        v.choice(&[
            ("ignore", DockerHealth::Ignore),
            ("require", DockerHealth::Require),
        ])
    });
    let health = HealthSpec {
        question: question?,
        interval: interval?,
        timeout: timeout?,
        successes: successes?,
        deadline: deadline?,
        docker: docker?,
    };
    gate_can_open(table, health)
}

/// One of three.
fn question(table: &mut Table<'_>) -> Option<Question> {
    let path = table.optional("path", |v| v.parse(forms::request_path));
    let tcp = table.or_default("tcp", false, Value::boolean);
    let command = table.optional("command", container::command);
    let hint = "a container is asked in one way: keep one of path, tcp and command";
    match (path?, tcp?, command?) {
        (Some(_), true, _) => {
            table.fault("tcp", Fault::new("and path exclude each other").hint(hint))
        }
        (Some(_), false, Some(_)) => table.fault(
            "command",
            Fault::new("and path exclude each other").hint(hint),
        ),
        (None, true, Some(_)) => table.fault(
            "command",
            Fault::new("and tcp exclude each other").hint(hint),
        ),
        (None, true, None) => Some(Question::Connect {}),
        (None, false, Some(command)) => Some(Question::Run(command)),
        (path, false, None) => Some(Question::Get(path.unwrap_or_else(|| "/".to_owned()))),
    }
}

/// Refuses a gate that no container could pass in time, however healthy.
fn gate_can_open(table: &Table<'_>, health: HealthSpec) -> Option<HealthSpec> {
    let deadline = render_duration(health.deadline);
    let questions = health.interval.saturating_mul(health.successes);
    let mut fits = Some(());
    if health.timeout > health.deadline {
        let timeout = render_duration(health.timeout);
        let fault =
            format!("one answer may take {timeout}, longer than the deadline of {deadline}");
        let hint = "set a timeout below the deadline";
        fits = table.fault("timeout", Fault::new(fault).hint(hint));
    }
    if health.interval >= health.deadline {
        let interval = render_duration(health.interval);
        let fault = format!("one question in {interval} does not fit the deadline of {deadline}");
        let hint = "set an interval well below the deadline";
        fits = table.fault("interval", Fault::new(fault).hint(hint));
    } else if questions >= health.deadline {
        let (successes, questions) = (health.successes, render_duration(questions));
        let fault = format!(
            "{successes} questions take {questions}, which does not fit the deadline of {deadline}"
        );
        let hint = "ask for fewer successes, a shorter interval or a later deadline";
        fits = table.fault("successes", Fault::new(fault).hint(hint));
    }
    fits.map(|()| health)
}

pub(super) fn watch(table: &mut Table<'_>) -> Option<WatchSpec> {
    let window = table.or_default("window", MINUTE, |v| v.duration(WATCH));
    let max_error_rate = table.or_default("max_error_rate", Rate(5_000), Value::rate);
    let max_latency_p99 = table.optional("max_latency_p99", |v| v.duration(LATENCY));
    let min_requests = table.or_default("min_requests", 20, |v| v.integer(REQUESTS));
    let min_compared = table.or_default("min_compared", CanaryRule::DEFAULT_MIN_REQUESTS, |v| {
        v.integer(REQUESTS)
    });
    let min_difference = table.or_default(
        "min_difference",
        CanaryRule::DEFAULT_MIN_DIFFERENCE,
        Value::rate,
    );
    let on_no_verdict = table.or_default("on_no_verdict", OnNoVerdict::Promote, |v| {
        v.choice(&[
            ("promote", OnNoVerdict::Promote),
            ("abort", OnNoVerdict::Abort),
            ("extend", OnNoVerdict::Extend),
            ("hold", OnNoVerdict::Hold),
        ])
    });
    let extend_to = table.optional("extend_to", |v| v.duration(EXTENDED));
    let hold_deadline = table.or_default("hold_deadline", 60 * MINUTE, |v| v.duration(PERSON));
    let window = window?;
    let extend_to = extend_to?.unwrap_or_else(|| window.saturating_mul(4));
    if extend_to < window {
        let (short, window) = (render_duration(extend_to), render_duration(window));
        let fault = format!("{short} is shorter than the window of {window}");
        let fault = Fault::new(fault).hint("it is the whole watch, not what is added to it");
        return table.fault("extend_to", fault);
    }
    Some(WatchSpec {
        window,
        max_error_rate: max_error_rate?,
        max_latency_p99: max_latency_p99?,
        min_requests: min_requests?,
        min_compared: min_compared?,
        min_difference: min_difference?,
        on_no_verdict: on_no_verdict?,
        extend_to,
        hold_deadline: hold_deadline?,
    })
}
