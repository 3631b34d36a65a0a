//! Interrupts: a cancelled workflow aborts its deploy, in time and in truth.

use rustix::process::Signal;

use crate::run::{deploy, signal, start, until, wait};
use crate::support::{Agent, Fault};

const SEND: &str = "POST /v1/deploys";
const EVENTS: &str = "GET /v1/deploys/";

#[test]
fn an_interrupt_aborts_the_deploy_and_waits_for_its_end() {
    let agent = Agent::start();
    for kind in [Signal::INT, Signal::TERM] {
        let child = start(&mut deploy(&agent, "slow", &[]));
        until("waiting for the deploy", || {
            agent
                .state()
                .deploys
                .values()
                .any(|deploy| deploy.told.len() > 2 && !deploy.aborted)
        });
        signal(&child, kind);
        let ended = wait(child);
        assert_eq!(ended.status, 7, "{ended:?}");
        assert!(ended.stdout.contains("was aborted"), "{}", ended.stdout);
        assert!(
            ended.stdout.contains("v7 serves all requests"),
            "{}",
            ended.stdout
        );
    }
    assert!(agent.state().deploys.values().all(|deploy| deploy.aborted));
}

#[test]
fn an_interrupt_that_came_too_late_tells_the_true_outcome() {
    let agent = Agent::start();
    let child = start(&mut deploy(&agent, "late", &[]));
    until("waiting for the deploy", || agent.count(EVENTS) > 0);
    signal(&child, Signal::INT);
    let ended = wait(child);
    assert_eq!(ended.status, 0, "{ended:?}");
}

#[test]
fn an_interrupt_ends_in_time_when_the_deploy_does_not() {
    let agent = Agent::start();
    let child = start(&mut deploy(&agent, "stuck", &[]));
    until("waiting for the deploy", || agent.count(EVENTS) > 0);
    let begun = std::time::Instant::now();
    signal(&child, Signal::INT);
    let ended = wait(child);
    assert_eq!(ended.status, 7, "{ended:?}");
    assert!(
        begun.elapsed().as_secs() < 7,
        "a cancelled workflow asks again after 7.5 s"
    );
    assert!(agent.state().deploys.values().all(|deploy| deploy.aborted));
}

#[test]
fn an_interrupt_before_the_answer_aborts_what_was_accepted() {
    let agent = Agent::start();
    agent.fail(SEND, &[Fault::LoseAnswer; 2]);
    let child = start(&mut deploy(&agent, "slow", &[]));
    until("waiting for the call", || agent.count(SEND) > 0);
    signal(&child, Signal::INT);
    let ended = wait(child);
    assert_eq!(ended.status, 7, "{ended:?}");
    assert!(agent.state().deploys.values().all(|deploy| deploy.aborted));
    assert_eq!(agent.state().deploys.len(), 1);
}
