//! What holds for any plan of any world, and for any way to carry it out.

use cutover_plan::compile::Request;
use cutover_plan::event::Event;
use cutover_plan::history;
use cutover_plan::id::{ReleaseNumber, Replica};
use cutover_plan::outcome::Outcome;
use cutover_plan::release::Releases;
use cutover_plan::state::{DeployState, Phase};
use cutover_plan::step::Step;
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::any;
use crate::host::{Fate, Host, Told, image, scale};

fn carry_out(host: &mut Host, request: &Request, fates: &[Fate]) -> Told {
    let mut fates = fates.iter().copied();
    host.carry_out(request, |_, _| fates.next().unwrap_or(Fate::Done))
}

/// The state and the releases after each event, from those at the start.
fn folds(start: &Releases, events: &[Event]) -> Vec<(DeployState, Releases)> {
    let mut state = DeployState::begin(&events[0]).expect("the first event");
    let mut releases = start.clone();
    let mut folds = vec![(state.clone(), releases.clone())];
    for event in &events[1..] {
        history::fold(&mut releases, &state, event);
        state = state.apply(event).expect("a legal event");
        folds.push((state.clone(), releases.clone()));
    }
    folds
}

proptest! {
    /// `Host::plan` lints what it compiles.
    #[test]
    fn every_plan_passes_the_lint(host in any::host(), request in any::request()) {
        if let Ok(plan) = host.plan(&request) {
            prop_assert_eq!(plan.from, host.seen.releases.serving);
            prop_assert_eq!(plan.to_string().lines().count() > 2, !plan.steps.is_empty());
        }
    }

    #[test]
    fn a_new_release_gets_a_number_that_no_container_has(host in any::host(), number in 1..9_u8) {
        let plan = host.plan(&image(number)).expect("a plan");
        let new = plan.release.number;
        prop_assert!(plan.steps.is_empty() || !host.seen.present().contains(&new));
        prop_assert!(plan.steps.is_empty() || host.seen.releases.find(new).is_none());
    }

    #[test]
    fn a_deploy_done_twice_is_nothing_to_do(mut host in any::host(), number in 1..9_u8) {
        let done = host.deploy(number).outcome;
        if done == Outcome::Shadowed {
            return Ok(());
        }
        prop_assert_eq!(done, Outcome::Promoted);
        prop_assert!(host.seen.present().len() <= 2 || host.plan(&image(number)).is_ok());
        let again = host.plan(&image(number)).expect("a plan");
        prop_assert!(again.steps.is_empty(), "{again}");
        prop_assert_eq!(again.release.number, host.routed.sole().expect("it serves"));
    }

    #[test]
    fn a_release_that_is_scaled_has_its_containers_and_the_users_it_had(mut host in any::host()) {
        let served = host.routed.clone();
        let before = host.seen.containers.clone();
        let told = host.carry_out(&scale(), |_, _| Fate::Done);
        if told.outcome == Outcome::Promoted {
            let serving = served.sole().expect("it served all");
            prop_assert_eq!(host.routed.sole(), Some(serving));
            prop_assert_eq!(host.seen.releases.serving, Some(serving));
            let wanted = (0..host.spec.replicas).map(Replica).collect();
            prop_assert_eq!(host.seen.replicas_of(serving), wanted);
            prop_assert!(host.plan(&scale()).expect("a plan").steps.is_empty());
        } else {
            prop_assert!(host.routed.is_as(&served));
            for one in host.seen.containers.iter().filter(|one| before.contains(one)) {
                let had = served.includes(one.release, one.replica);
                prop_assert!(!had || host.routed.includes(one.release, one.replica));
            }
        }
    }

    /// However a change of their number ended, the next deploy begins.
    #[test]
    fn whatever_becomes_of_scaling_a_deploy_can_follow(
        mut host in any::host(),
        fates in any::fates(),
        request in any::request(),
    ) {
        carry_out(&mut host, &scale(), &fates);
        host.carry_out(&request, |_, _| Fate::Done);
    }

    #[test]
    fn rollbacks_only_go_down_and_come_to_an_end(mut host in any::host()) {
        let mut served = host.seen.releases.serving;
        while let Ok(plan) = host.plan(&Request::Rollback) {
            prop_assert!(Some(plan.release.number) < served);
            prop_assert_eq!(host.rollback().outcome, Outcome::Promoted);
            prop_assert_eq!(host.routed.sole(), Some(plan.release.number));
            prop_assert!(host.seen.present().len() <= 2);
            served = host.routed.sole();
        }
    }

    /// Whatever fails, dies or is aborted: it ends (the host bounds the events),
    /// and who had a good release has one that runs.
    #[test]
    fn every_deploy_ends_and_leaves_nobody_alone(
        mut host in any::host(),
        request in any::request(),
        fates in any::fates(),
    ) {
        let old = host.routed.sole().filter(|old| host.answers(*old));
        let told = carry_out(&mut host, &request, &fates);
        // In-place stops it, and then its host may refuse to start it again.
        if old.is_some() && !told.is_stranded() {
            let serving = host.routed.releases();
            prop_assert!(!serving.is_empty() && !host.parked, "{told:#?}");
            let healthy = serving.iter().all(|n| host.seen.is_healthy(*n));
            prop_assert!(healthy, "{told:#?}");
        }
        if told.outcome == Outcome::Promoted {
            let new = told.state.release();
            prop_assert_eq!(host.routed.sole(), new);
            prop_assert_eq!(host.seen.releases.serving, new);
        }
        // Success is never reported of a release that the watch did not let stay.
        let plan = told.state.plan.as_deref();
        let proof = plan.map_or(0, cutover_plan::plan::Plan::proved_after);
        if proof > 0 {
            // By the watch itself, or by a person who did not wait for its end.
            let mut state = DeployState::begin(&told.events[0]).expect("the first event");
            let mut watched = false;
            for event in &told.events[1..] {
                let ends = matches!(
                    event,
                    Event::StepFinished { .. }
                        | Event::Approved { .. }
                        | Event::PromoteRequested { .. }
                );
                let last = matches!(state.phase, Phase::Forward { next } if next + 1 == proof);
                watched |= ends && last;
                state = state.apply(event).expect("a legal event");
            }
            let good = matches!(told.outcome, Outcome::Promoted | Outcome::Shadowed);
            prop_assert_eq!(good, watched);
        }
        if told.state.aborted_by.is_some() {
            prop_assert!(matches!(told.outcome, Outcome::Aborted | Outcome::Failed));
        }
    }

    #[test]
    fn a_fold_can_be_stopped_written_down_and_gone_on_with_anywhere(
        mut host in any::host(),
        request in any::request(),
        fates in any::fates(),
    ) {
        let start = host.seen.releases.clone();
        let told = carry_out(&mut host, &request, &fates);
        let folds = folds(&start, &told.events);
        for (index, (state, releases)) in folds.iter().enumerate() {
            let event = &told.events[index];
            let json = serde_json::to_string(event).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<Event>(&json).expect("an event"), event);
            let json = serde_json::to_string(&(state, releases)).expect("JSON");
            let read: (DeployState, Releases) = serde_json::from_str(&json).expect("a state");
            prop_assert_eq!(&read.0, state);
            prop_assert_eq!(&read.1, releases);
        }
        // On from the middle, as a new process does.
        let middle = folds.len() / 2;
        let (mut state, mut releases) = folds[middle].clone();
        for event in &told.events[middle + 1..] {
            history::fold(&mut releases, &state, event);
            state = state.apply(event).expect("a legal event");
        }
        prop_assert_eq!(&state, &told.state);
        prop_assert_eq!(releases, host.seen.releases);
    }

    #[test]
    fn a_crash_anywhere_never_names_a_serving_release_that_got_no_shift(
        mut host in any::host(),
        request in any::request(),
        fates in any::fates(),
    ) {
        let start = host.seen.releases.clone();
        let told = carry_out(&mut host, &request, &fates);
        let mut shifted: Vec<Option<ReleaseNumber>> = vec![start.serving];
        let folds = folds(&start, &told.events);
        for (index, (_, releases)) in folds.iter().enumerate().skip(1) {
            let (before, _) = &folds[index - 1];
            if let Event::StepFinished { at, .. } = &told.events[index]
                && let Some(Step::Shift { to, .. }) = before.step(*at)
            {
                // While requests are split, the release that had them serves.
                let last = shifted.last().copied().flatten();
                let stays = last.filter(|last| to.sole().is_none() && to.reaches(*last));
                shifted.push(stays.or(to.sole()));
            }
            prop_assert_eq!(Some(&releases.serving), shifted.last());
            prop_assert!(releases.standby.is_none() || releases.standby != releases.serving);
        }
    }
}
