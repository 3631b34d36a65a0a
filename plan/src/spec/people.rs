//! Where a deploy does what its people want of it: hooks, approvals, and what
//! becomes of a call that finds another deploy under way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::step::HookPoint;

/// One-shot containers of the new image, by the place where they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksSpec {
    /// `[hooks.before_start]`: before its containers start, for example migrations.
    pub before_start: Option<HookSpec>,
    /// `[hooks.before_shift]`: once it is healthy, for example smoke tests.
    pub before_shift: Option<HookSpec>,
    /// `[hooks.after_shift]`: once it has users.
    pub after_shift: Option<HookSpec>,
    /// `[hooks.after_success]`: once it has proved itself; its failure changes nothing.
    pub after_success: Option<HookSpec>,
    /// `[hooks.on_failure]`: once all was taken back; its failure changes nothing.
    pub on_failure: Option<HookSpec>,
}

impl HooksSpec {
    /// The hook at a place.
    pub fn at(&self, point: HookPoint) -> Option<&HookSpec> {
        match point {
            HookPoint::BeforeStart => self.before_start.as_ref(),
            HookPoint::BeforeShift => self.before_shift.as_ref(),
            HookPoint::AfterShift => self.after_shift.as_ref(),
            HookPoint::AfterSuccess => self.after_success.as_ref(),
            HookPoint::OnFailure => self.on_failure.as_ref(),
        }
    }
}

/// One hook. Its container gets what the app's containers get, but no port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSpec {
    /// `command`: what is run; exit code 0 is success. It may run twice, after a crash.
    pub command: Vec<String>,
    /// `timeout`: how long it may take; default `5m`.
    pub timeout: Duration,
}

/// Where a deploy waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalSpec {
    /// `before`: which shift needs it; default `shift`.
    pub before: ApprovedBefore,
    /// `deadline`: how long it waits; default `1h`.
    pub deadline: Duration,
    /// `on_timeout`: what then; default `abort`.
    pub on_timeout: OnTimeout,
}

/// Which shift needs an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovedBefore {
    /// `shift`: the first.
    Shift,
    /// `full`: the last, which gives the release all users.
    Full,
}

/// What happens when nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The deploy is taken back.
    Abort,
    /// It goes on.
    Promote,
}

/// What becomes of a call that finds a deploy of the app under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupersedeSpec {
    /// `before_shift`: while the running deploy has sent nobody to its release; default `supersede`.
    pub before_shift: Newcomer,
    /// `after_shift`: once it has; default `queue`.
    pub after_shift: Newcomer,
}

/// What becomes of the newer one of two deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Newcomer {
    /// It waits for the end of the running one. One call waits at the most: a
    /// still newer one takes its place.
    Queue,
    /// It takes the place of the running one, which is taken back first.
    Supersede,
    /// It is refused.
    Reject,
}
