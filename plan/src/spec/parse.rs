//! Reads an app's file: every key of it, its bounds, and what must fit together.
//!
//! Nothing is read here but the text: whether `env_file` exists or a domain
//! points at the host is found out by those who use them. The host's file is
//! trusted, so a volume may be any path of the host; what is refused are texts
//! that mean something else than they seem to.

mod forms;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the specs of apps do not have the table yet")
)]
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{self, Fault, Mistake, Table, Value};
use super::{
    AppSpec, Bytes, Environment, GithubSpec, HealthSpec, MilliCpus, OnNoVerdict, Rate, RunSpec,
    Strategy, Volume, WatchSpec, render_duration,
};
use crate::id::{AppName, Repository};

/// Far more hosts than one app has; each is a line of the routing table.
const DOMAINS: usize = 100;
/// As many volumes as anyone could tell apart.
const VOLUMES: usize = 100;
/// From the least that Docker Engine accepts to more than any host has.
const MEMORY: RangeInclusive<Bytes> = Bytes(6 << 20)..=Bytes(64 << 40);
/// From the least that Docker Engine accepts to more than any host has.
const CPUS: RangeInclusive<MilliCpus> = MilliCpus(10)..=MilliCpus(4_096_000);
/// Linux numbers no more processes than 2^22.
const PIDS: RangeInclusive<u32> = 1..=4_194_304;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const MILLISECOND: Duration = Duration::from_millis(1);
/// Every wait has a deadline; these are the longest that can be asked for.
const LONGEST_STOP: Duration = seconds(10 * 60);
const LONGEST_DRAIN: Duration = seconds(60 * 60);
const LONGEST_GATE: Duration = seconds(60 * 60);
const LONGEST_WATCH: Duration = seconds(24 * 60 * 60);
/// A watch has to see something: none at all would call missing data a success.
const SHORTEST_WATCH: Duration = seconds(1);
/// A host has better to do than to answer health questions faster than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Reads the file of one app; `file` is only its name in the mistakes, `app` is its stem.
pub fn parse(file: &str, app: &str, text: &str) -> Result<AppSpec, Vec<Mistake>> {
    reader::read(file, text, |root| app_spec(app, root))
}

/// Reads everything before it gives up on anything: all mistakes show at once.
fn app_spec(app: &str, root: &mut Table<'_>) -> Option<AppSpec> {
    let app = AppName::parse(app).map_or_else(
        |error| {
            root.fault(
                app,
                Fault::from(error).hint("rename the file: its stem is the app"),
            )
        },
        Some,
    );
    let image = root.required("image", "\"ghcr.io/acme/shop\"", |v| {
        v.parse(Repository::parse)
    });
    let domains = root.required("domains", "[\"shop.example.com\"]", domains);
    let path_prefix = root.or_default("path_prefix", "/".to_owned(), |v| v.parse(forms::prefix));
    let strategy = root.or_default("strategy", Strategy::BlueGreen, |v| v.parse(strategy));
    let run = run_spec(root);
    let drain_deadline = root.or_default("drain_deadline", seconds(30), |v| {
        v.duration(Duration::ZERO..=LONGEST_DRAIN)
    });
    let health = root.table("health", health);
    let watch = root.table("watch", watch);
    let github = root.optional("github", |v| v.table(github));
    Some(AppSpec {
        app: app?,
        image: image?,
        domains: domains?,
        path_prefix: path_prefix?,
        strategy: strategy?,
        run: run?,
        health: health?,
        watch: watch?,
        drain_deadline: drain_deadline?,
        github: github?,
    })
}

fn domains(value: &Value<'_>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    value.array(1..=DOMAINS, |item| {
        let host = item.parse(forms::host)?;
        match seen.insert(host.clone()) {
            true => Some(host),
            false => item.fault("is listed twice"),
        }
    })
}

fn strategy(text: &str) -> Result<Strategy, Fault> {
    match text {
        "blue-green" => Ok(Strategy::BlueGreen),
        "canary" | "rolling" | "red-black" | "in-place" | "shadow" => {
            let fault = Fault::new("is a strategy that this version does not carry out yet");
            Err(fault.hint("write \"blue-green\""))
        }
        other => Err(Fault::not_one_of(other, &["blue-green"])),
    }
}

fn run_spec(root: &mut Table<'_>) -> Option<RunSpec> {
    let port = root.required("port", "8080", |v| v.integer(1..=u16::MAX));
    let env = root.optional("env", |v| v.concealed().table(environment));
    let env_file = root.optional("env_file", |v| v.parse(forms::absolute_path));
    let volumes = root.or_default("volumes", Vec::new(), volumes);
    let limits = root.table("limits", |limits| {
        let memory = limits.optional("memory", |v| v.bytes(MEMORY));
        let cpus = limits.optional("cpus", |v| v.number(cpus));
        let pids = limits.optional("pids", |v| v.integer(PIDS));
        Some((memory?, cpus?, pids?))
    });
    let stop_grace = root.or_default("stop_grace", seconds(10), |v| {
        v.duration(Duration::ZERO..=LONGEST_STOP)
    });
    let (memory, cpus, pids) = limits?;
    Some(RunSpec {
        port: port?,
        env: env?.unwrap_or_default(),
        env_file: env_file?,
        volumes: volumes?,
        memory,
        cpus,
        pids,
        stop_grace: stop_grace?,
    })
}

fn environment(table: &mut Table<'_>) -> Option<Environment> {
    let variable = |(name, value): (String, Value<'_>)| {
        let name = match forms::variable_name(&name) {
            Ok(()) => Some(name),
            Err(fault) => value.key_fault(fault),
        };
        let value = value.parse(|text| match text.contains('\0') {
            true => Err("must not contain a NUL character"),
            false => Ok(text.to_owned()),
        });
        Some((name?, value?))
    };
    let variables: Vec<Option<_>> = table.rest().into_iter().map(variable).collect();
    variables
        .into_iter()
        .collect::<Option<BTreeMap<_, _>>>()
        .map(Environment)
}

fn volumes(value: &Value<'_>) -> Option<Vec<Volume>> {
    let mut seen = BTreeSet::new();
    value.array(0..=VOLUMES, |item| {
        let volume = item.parse(forms::volume)?;
        match seen.insert(volume.target.clone()) {
            true => Some(volume),
            false => item.fault("has the same target as a volume before it"),
        }
    })
}

fn cpus(digits: &str) -> Result<MilliCpus, Fault> {
    let cpus = MilliCpus::parse(digits)?;
    match CPUS.contains(&cpus) {
        true => Ok(cpus),
        false => Err(Fault::new(format!(
            "must be from {} to {}",
            CPUS.start(),
            CPUS.end()
        ))),
    }
}

fn health(table: &mut Table<'_>) -> Option<HealthSpec> {
    let path = table.or_default("path", "/".to_owned(), |v| v.parse(forms::request_path));
    let interval = table.or_default("interval", seconds(1), |v| {
        v.duration(SHORTEST_INTERVAL..=LONGEST_GATE)
    });
    let timeout = table.or_default("timeout", seconds(5), |v| {
        v.duration(MILLISECOND..=LONGEST_GATE)
    });
    // More than the longest deadline has room for is refused below, with the deadline.
    let successes = table.or_default("successes", 2, |v| v.integer(1..=u32::MAX));
    let deadline = table.or_default("deadline", seconds(60), |v| {
        v.duration(MILLISECOND..=LONGEST_GATE)
    });
    let health = HealthSpec {
        path: path?,
        interval: interval?,
        timeout: timeout?,
        successes: successes?,
        deadline: deadline?,
    };
    gate_can_open(table, health)
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

fn watch(table: &mut Table<'_>) -> Option<WatchSpec> {
    let window = table.or_default("window", seconds(60), |v| {
        v.duration(SHORTEST_WATCH..=LONGEST_WATCH)
    });
    let max_error_rate = table.or_default("max_error_rate", Rate(5 * Rate::ONE / 100), Value::rate);
    let max_latency_p99 = table.optional("max_latency_p99", |v| {
        v.duration(MILLISECOND..=LONGEST_WATCH)
    });
    // From 1, because rates of no requests are no verdict; to more than any window sees.
    let min_requests = table.or_default("min_requests", 20, |v| v.integer(1..=1_000_000_000));
    let on_no_verdict = table.or_default("on_no_verdict", OnNoVerdict::Promote, |v| {
        v.choice(&[
            ("promote", OnNoVerdict::Promote),
            ("rollback", OnNoVerdict::Rollback),
        ])
    });
    Some(WatchSpec {
        window: window?,
        max_error_rate: max_error_rate?,
        max_latency_p99: max_latency_p99?,
        min_requests: min_requests?,
        on_no_verdict: on_no_verdict?,
    })
}

fn github(table: &mut Table<'_>) -> Option<GithubSpec> {
    let repository = table.required("repository", "\"acme/shop\"", |v| {
        v.parse(forms::github_repository)
    });
    let environment = table.or_default("environment", "production".to_owned(), |v| {
        v.parse(forms::github_environment)
    });
    let url = table.optional("url", |v| v.parse(forms::url));
    Some(GithubSpec {
        repository: repository?,
        environment: environment?,
        url: url?,
    })
}

#[cfg(test)]
mod tests;
