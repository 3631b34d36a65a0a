//! Hooks: one-shot containers of the new image.
//!
//! A hook may change what cannot be changed back (a migration), so it is found
//! again after a crash and not begun a second time: what is left of it stays
//! until its result is in the journal. What no step waits for any more is
//! stopped and removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::spec::render_duration;
use cutover_plan::state::Running;
use cutover_plan::step::Step;

use super::deploying::RESUMED_AT_LEAST;
use super::steps::Steps;
use super::{Deploy, Engine};
use crate::containers::{Containers, HookEnd, HookOrder};
use crate::journal::Record;
use crate::traffic::Traffic;

/// What the engine of containers may take beyond the grace to clear hooks away.
const MARGIN: Duration = Duration::from_secs(60);

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Runs the hook of a step to its end, at most until its deadline.
    pub(super) async fn hook(
        &self,
        step: &Step,
        running: Option<Running>,
    ) -> Result<Finding, Failure> {
        let Step::Hook {
            point,
            release,
            image,
            command,
            deadline,
        } = step
        else {
            return Ok(Finding::Done);
        };
        let order = HookOrder {
            app: self.lease.app().clone(),
            deploy: self.deploy.clone(),
            release: *release,
            point: *point,
            image: image.clone(),
            command: command.clone(),
            run: self.spec.run.clone(),
        };
        let spent = self.since(running);
        let left = deadline
            .saturating_sub(spent)
            .max(RESUMED_AT_LEAST.min(*deadline));
        let progress = |note: String| {
            // Nobody reads any more when the deploy was aborted.
            let _ = self.progress.send(note);
        };
        let containers = &self.drivers.containers;
        let run = self.ask_containers(|| containers.run_hook(&order, &progress));
        match tokio::time::timeout(left, run).await {
            Ok(ended) => {
                let HookEnd {
                    code,
                    out_of_memory,
                    lines,
                } = ended?;
                if code == 0 {
                    let text = lines.last().map_or("it ended well", String::as_str);
                    let text = format!("{point}: {text}");
                    return Ok(Finding::Note { text });
                }
                let memory = if out_of_memory { ", out of memory" } else { "" };
                let reason = format!("the hook {point} exited with {code}{memory}");
                let hint = "see its last lines; run its command in the image by hand";
                let failure = Failure::new(FailureClass::Release, reason);
                Err(failure.hint(hint).log(lines))
            }
            Err(_) => {
                let grace = self.spec.run.stop_grace;
                let stop = self.ask_containers(|| containers.stop_hook(&order, grace));
                let lines = stop.await.unwrap_or_default();
                let limit = render_duration(*deadline);
                let reason = format!("the hook {point} did not end within {limit} and was stopped");
                let hint =
                    format!("see its last lines; a slow one needs a longer hooks.{point}.timeout");
                let failure = Failure::new(FailureClass::Release, reason);
                Err(failure.hint(hint).log(lines))
            }
        }
    }
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Stops and removes hooks that no step waits for: of this deploy, once the
    /// result is in the journal or the deploy has turned, and of any before it.
    /// What cannot be removed now is tried again once the engine is idle.
    pub(super) async fn clear_hooks_of(&mut self, deploy: &Deploy) {
        let running = deploy
            .state
            .running
            .and_then(|running| deploy.state.step(running.at));
        if matches!(running, Some(Step::Hook { .. })) {
            return;
        }
        self.clear_hooks().await;
    }

    /// Stops and removes every hook of the app. It needs nothing of the engine
    /// while it goes on.
    pub(super) fn clear_hooks(&self) -> impl Future<Output = ()> + Send + use<C, T, R> {
        let grace = self.spec.run.stop_grace;
        let app = self.lease.app().clone();
        let containers = Arc::clone(&self.drivers.containers);
        let left = Arc::clone(&self.hooks_left);
        async move {
            let cleared = containers.remove_hooks(&app, grace);
            let trouble = match tokio::time::timeout(grace.saturating_add(MARGIN), cleared).await {
                Ok(Ok(())) => {
                    left.store(false, Ordering::Relaxed);
                    return;
                }
                Ok(Err(error)) => error.reason,
                Err(_) => "the engine does not answer".to_owned(),
            };
            tracing::warn!(%app, %trouble, "hooks were not looked for, and may run on");
            left.store(true, Ordering::Relaxed);
        }
    }
}
