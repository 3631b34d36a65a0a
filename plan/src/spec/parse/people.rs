//! `[hooks]`, `[approval]` and `[supersede]`: what people want of a deploy.

use super::bounds::{HOOK, MINUTE, PERSON};
use super::container;
use crate::spec::reader::Table;
use crate::spec::{
    ApprovalSpec, ApprovedBefore, HookSpec, HooksSpec, Newcomer, OnTimeout, SupersedeSpec,
};
use crate::step::HookPoint;

pub(super) fn hooks(table: &mut Table<'_>) -> Option<HooksSpec> {
    let mut at = |point: HookPoint| table.optional(point.as_str(), |v| v.table(hook));
    let before_start = at(HookPoint::BeforeStart);
    let before_shift = at(HookPoint::BeforeShift);
    let after_shift = at(HookPoint::AfterShift);
    let after_success = at(HookPoint::AfterSuccess);
    let on_failure = at(HookPoint::OnFailure);
    Some(HooksSpec {
        before_start: before_start?,
        before_shift: before_shift?,
        after_shift: after_shift?,
        after_success: after_success?,
        on_failure: on_failure?,
    })
}

fn hook(table: &mut Table<'_>) -> Option<HookSpec> {
    let command = table.required("command", "[\"./migrate\"]", container::command);
    let timeout = table.or_default("timeout", 5 * MINUTE, |v| v.duration(HOOK));
    Some(HookSpec {
        command: command?,
        timeout: timeout?,
    })
}

pub(super) fn approval(table: &mut Table<'_>) -> Option<ApprovalSpec> {
    let before = table.or_default("before", ApprovedBefore::Shift, |v| {
        v.choice(&[
            ("shift", ApprovedBefore::Shift),
            ("full", ApprovedBefore::Full),
        ])
    });
    let deadline = table.or_default("deadline", 60 * MINUTE, |v| v.duration(PERSON));
    let on_timeout = table.or_default("on_timeout", OnTimeout::Abort, |v| {
        v.choice(&[("abort", OnTimeout::Abort), ("promote", OnTimeout::Promote)])
    });
    Some(ApprovalSpec {
        before: before?,
        deadline: deadline?,
        on_timeout: on_timeout?,
    })
}

pub(super) fn supersede(table: &mut Table<'_>) -> Option<SupersedeSpec> {
    let mut newcomer = |key, default| {
        table.or_default(key, default, |v| {
            v.choice(&[
                ("queue", Newcomer::Queue),
                ("supersede", Newcomer::Supersede),
                ("reject", Newcomer::Reject),
            ])
        })
    };
    let before_shift = newcomer("before_shift", Newcomer::Supersede);
    let after_shift = newcomer("after_shift", Newcomer::Queue);
    Some(SupersedeSpec {
        before_shift: before_shift?,
        after_shift: after_shift?,
    })
}
