//! Deploy windows: when a deploy may be called for, and may move users.
//!
//! A rollback is exempt, and so is a deploy whose caller said why.

use cutover_plan::event::{Event, Failure, FailureClass};
use cutover_plan::plan::Kind;
use cutover_plan::spec::AppSpec;
use cutover_plan::step::Step;
use cutover_plan::windows::Closed;
use jiff::Timestamp;

use super::Deploy;

/// Why no deploy of the app may begin now.
pub(super) fn closed(spec: &AppSpec, now: Timestamp) -> Option<Closed> {
    spec.windows.as_ref()?.judge(now).err()
}

/// Why a step that is about to begin may not: a deploy that was held up moves
/// no users once its window has closed. On its way back nothing stops it, and
/// not between the holding of requests and their release either.
pub(super) fn forbids(
    spec: &AppSpec,
    deploy: &Deploy,
    step: &Step,
    now: Timestamp,
) -> Option<Failure> {
    let plan = deploy.state.plan.as_deref();
    let holds = plan.is_some_and(|plan| {
        let mut steps = plan.steps.iter();
        steps.any(|planned| matches!(planned.step, Step::Park { .. }))
    });
    let moves = match step {
        Step::Park { .. } => true,
        Step::Shift { .. } => !holds,
        _ => false,
    };
    if !moves || deploy.state.kind != Kind::Deploy || deploy.window_override.is_some() {
        return None;
    }
    let closed = closed(spec, now)?;
    let reason = format!("the users were not moved: {closed}");
    let hint = "deploy again when they are open, or with --override-window \"why\"";
    Some(Failure::new(FailureClass::Request, reason).hint(hint))
}

/// Why a deploy may begin in a closed window, as its first event tells it.
pub(super) fn overridden(event: &Event) -> Option<&str> {
    match event {
        Event::Accepted {
            window_override, ..
        } => window_override.as_deref(),
        _ => None,
    }
}
