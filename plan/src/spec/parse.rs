//! Reads an app's file: every key of it, its bounds, and what must fit together.
//!
//! Nothing is read here but the text: whether `env_file` exists or a domain
//! points at the host is found out by those who use them. The host's file is
//! trusted, so a volume may be any path of the host; what is refused are texts
//! that mean something else than they seem to, and settings that cannot work.
//!
//! Keys of a strategy that is not chosen are read and checked all the same:
//! people switch from one to another, and a mistake should not wait for that.
//!
//! The defaults stand here and nowhere else; `written` says them to people, and
//! its tests hold the two together.

mod bounds;
mod clients;
mod container;
mod forms;
mod health;
mod notify;
mod people;
mod run;
mod strategy;
mod windows;

use std::collections::BTreeSet;
use std::time::Duration;

use super::reader::{self, Fault, Mistake, Table, Value};
use super::{AppSpec, GithubSpec, HooksSpec, PreviewSpec, Strategy, render_duration};
use crate::id::{AppName, Repository};
use crate::step::HookPoint;

pub use notify::notify;

use bounds::{DRAIN, MINUTE, PROGRESS, REPLICAS, STANDBY, seconds};

/// Far more hosts than one app has; each is a line of the routing table.
const DOMAINS: usize = 100;

/// Reads the file of one app; `file` is only its name in the mistakes, `app` is its stem.
pub fn parse(file: &str, app: &str, text: &str) -> Result<AppSpec, Vec<Mistake>> {
    reader::read(file, text, |root| app_spec(app, root))
}

/// The keys that are asked for while `text` is read, by the path of their table.
#[cfg(test)]
pub(super) fn keys(text: &str) -> reader::Known {
    reader::keys(text, |root| app_spec("shop", root))
}

/// Reads everything before it gives up on anything: all mistakes show at once.
fn app_spec(app: &str, root: &mut Table<'_>) -> Option<AppSpec> {
    let app = app_name(app, root);
    let image = root.required("image", "\"ghcr.io/acme/shop\"", |v| {
        v.parse(Repository::parse)
    });
    let domains = root.required("domains", "[\"shop.example.com\"]", domains);
    let path_prefix = root.or_default("path_prefix", "/".to_owned(), |v| v.parse(forms::prefix));
    let strategy = root.or_default("strategy", Strategy::BlueGreen, |v| {
        v.choice(&Strategy::ALL.map(|strategy| (strategy.as_str(), strategy)))
    });
    let replicas = root.or_default("replicas", 1, |v| v.integer(REPLICAS));
    let health = root.table("health", health::health);
    let run = run::read(root, health.as_ref().map(|health| health.docker));
    let watch = root.table("watch", health::watch);
    let drain_deadline = root.or_default("drain_deadline", seconds(30), |v| v.duration(DRAIN));
    let standby = root.or_default("standby", 10 * MINUTE, |v| v.duration(STANDBY));
    let canary = root.table("canary", strategy::canary);
    let rolling = root.table("rolling", |t| strategy::rolling(t, replicas));
    let in_place = root.table("in_place", strategy::in_place);
    let shadow = root.table("shadow", strategy::shadow);
    let preview = root.optional("preview", |v| v.table(strategy::preview));
    let hooks = root.table("hooks", people::hooks);
    let approval = root.optional("approval", |v| v.table(people::approval));
    let supersede = root.table("supersede", people::supersede);
    let windows = root.optional("windows", |v| v.table(windows::windows));
    let github = root.optional("github", |v| v.table(github));
    let notify = root.or_default("notify", Vec::new(), notify::notify);
    let mut waits = vec![
        ("drain_deadline", drain_deadline),
        ("stop_grace", run.as_ref().map(|run| run.stop_grace)),
        ("health.deadline", health.as_ref().map(|one| one.deadline)),
    ];
    waits.extend(hook_timeouts(hooks.as_ref()));
    in_place_fits(root, strategy, hooks.as_ref(), preview.as_ref());
    let progress_deadline = progress_deadline(root, &waits);
    Some(AppSpec {
        app: app?,
        image: image?,
        domains: domains?,
        path_prefix: path_prefix?,
        strategy: strategy?,
        replicas: replicas?,
        run: run?,
        health: health?,
        watch: watch?,
        drain_deadline: drain_deadline?,
        progress_deadline: progress_deadline?,
        standby: standby?,
        canary: canary?,
        rolling: rolling?,
        in_place: in_place?,
        shadow: shadow?,
        preview: preview?,
        hooks: hooks?,
        approval: approval?,
        supersede: supersede?,
        windows: windows?,
        github: github?,
        notify: notify?,
    })
}

/// In-place holds requests until the new release is healthy: nothing that takes
/// its time can stand between.
fn in_place_fits(
    root: &Table<'_>,
    strategy: Option<Strategy>,
    hooks: Option<&HooksSpec>,
    preview: Option<&Option<PreviewSpec>>,
) {
    if strategy != Some(Strategy::InPlace) {
        return;
    }
    let fault = |key: &str, fault: &str, hint: &str| {
        let _: Option<()> = root.fault(key, Fault::new(fault).hint(hint));
    };
    if hooks.is_some_and(|hooks| hooks.before_shift.is_some()) {
        let told = "before_shift would run while in-place holds the requests of users";
        fault("hooks", told, "use before_start, or another strategy");
    }
    if preview.is_some_and(Option::is_some) {
        let told = "in-place has no time for a preview: it would hold the requests of users";
        fault("preview", told, "leave it out, or use another strategy");
    }
}

fn app_name(app: &str, root: &Table<'_>) -> Option<AppName> {
    let name = AppName::parse(app)
        .map_err(|error| Fault::from(error).hint("rename the file: its stem is the app"));
    name.map_or_else(|fault| root.fault(app, fault), Some)
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

fn hook_timeouts(
    hooks: Option<&HooksSpec>,
) -> impl Iterator<Item = (&'static str, Option<Duration>)> {
    let timeout = move |point| {
        let name = match point {
            HookPoint::BeforeStart => "hooks.before_start.timeout",
            HookPoint::BeforeShift => "hooks.before_shift.timeout",
            HookPoint::AfterShift => "hooks.after_shift.timeout",
            HookPoint::AfterSuccess => "hooks.after_success.timeout",
            HookPoint::OnFailure => "hooks.on_failure.timeout",
        };
        let hook = hooks.and_then(|hooks| hooks.at(point));
        (name, hook.map(|hook| hook.timeout))
    };
    HookPoint::ALL.into_iter().map(timeout)
}

/// Refuses a deadline that one of the deploy's own waits would run into.
fn progress_deadline(root: &mut Table<'_>, waits: &[(&str, Option<Duration>)]) -> Option<Duration> {
    let key = "progress_deadline";
    let deadline = root.or_default(key, 30 * MINUTE, |v| v.duration(PROGRESS))?;
    let known = waits
        .iter()
        .filter_map(|(name, wait)| Some((name, (*wait)?)));
    // Of equal ones the first: the order is that of the file's reference.
    let longest = known.rev().max_by_key(|(_, wait)| *wait);
    match longest {
        Some((name, wait)) if wait >= deadline => {
            let (wait, deadline) = (render_duration(wait), render_duration(deadline));
            let fault = format!("{deadline} is not longer than {name} of {wait}");
            let hint = format!("set a progress_deadline above {wait}, or a shorter {name}");
            root.fault(key, Fault::new(fault).hint(hint))
        }
        _ => Some(deadline),
    }
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
pub(super) mod tests;
