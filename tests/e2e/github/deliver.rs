//! Deliveries that go well, and the ones that never will.

use cutover_agent::forge::{DeliveryError, DeploymentState, Forge as _};
use cutover_tests::github::{Author, Fault};

use crate::bench::{Bench, deploy, message, story};

#[tokio::test]
async fn every_call_is_one_that_githubs_description_allows() {
    let bench = Bench::new().await;
    bench.tell(&story(1));
    let mut rolled_back = story(2);
    rolled_back[3].state = DeploymentState::Failure;
    bench.tell(&rolled_back);
    let running = bench.report();
    bench.delivered().await;
    running.abort();
    bench.told_once_in_order(&[story(1), rolled_back].concat());

    let deployments = bench.model.deployments();
    let deploys: Vec<_> = deployments
        .iter()
        .map(|one| one.deploy().unwrap().to_owned())
        .collect();
    assert_eq!(deploys, [deploy(1).to_string(), deploy(2).to_string()]);
    assert!(
        deployments
            .iter()
            .all(|one| one.production && !one.transient)
    );
    let status = &deployments[0].statuses[3];
    assert_eq!(status.log_url, crate::bench::RUN);
    assert_eq!(status.environment_url, "https://shop.example.com");
}

#[tokio::test]
async fn a_success_makes_older_deployments_inactive_and_never_its_own_or_anothers() {
    let bench = Bench::new().await;
    let foreign = bench
        .model
        .add_foreign_deployment("acme/shop", "production", "success");
    let elsewhere = bench
        .model
        .add_foreign_deployment("acme/shop", "staging", "success");
    let github = bench.github();
    for number in 1..=3 {
        for one in story(number) {
            github.deliver(&one, 1).await.unwrap();
        }
    }
    bench.clean();
    let deployments = bench.model.deployments();
    let state = |id| {
        deployments
            .iter()
            .find(|one| one.id == id)
            .and_then(|one| one.state())
    };
    assert_eq!(
        (state(foreign), state(elsewhere)),
        (Some("success"), Some("success"))
    );
    let ours: Vec<_> = deployments
        .iter()
        .filter(|one| one.deploy().is_some())
        .collect();
    let states: Vec<_> = ours.iter().map(|one| one.state().unwrap()).collect();
    assert_eq!(states, ["inactive", "inactive", "success"]);
    // Each got it once, from Cutover: GitHub leaves production alone.
    for one in &ours[..2] {
        let ends: Vec<_> = one
            .statuses
            .iter()
            .filter(|s| s.state == "inactive")
            .collect();
        assert!(ends.len() == 1 && ends[0].author == Author::Caller);
    }
}

#[tokio::test]
async fn a_late_success_does_not_end_a_newer_deployment() {
    let bench = Bench::new().await;
    let github = bench.github();
    for one in &story(1)[..3] {
        github.deliver(one, 1).await.unwrap();
    }
    for one in story(2) {
        github.deliver(&one, 1).await.unwrap();
    }
    github.deliver(&story(1)[3], 1).await.unwrap();
    let states: Vec<_> = bench
        .model
        .deployments()
        .iter()
        .map(|one| one.state().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["success", "success"]);
}

#[tokio::test]
async fn what_an_interrupted_success_left_active_is_ended_by_its_repetition() {
    let bench = Bench::new().await;
    let github = bench.github();
    for one in story(1).iter().chain(&story(2)[..3]) {
        github.deliver(one, 1).await.unwrap();
    }
    let last = &story(2)[3];
    // The status goes through; the list of older deployments does not.
    let so_far = bench.model.calls().len() as u64;
    bench.model.fail_call(so_far + 2, Fault::Status(502));
    let interrupted = github.deliver(last, 1).await;
    assert!(
        matches!(
            interrupted,
            Err(DeliveryError::Later {
                after_seconds: None,
                ..
            })
        ),
        "{interrupted:?}"
    );
    github.deliver(last, 2).await.unwrap();
    assert_eq!(bench.model.faults_left(), 0);
    bench.told_once_in_order(&[story(1), story(2)].concat());
    assert_eq!(bench.model.deployments()[0].state(), Some("inactive"));
}

#[tokio::test]
async fn outside_production_github_itself_ends_older_deployments() {
    let bench = Bench::new().await;
    let github = bench.github();
    for number in 1..=2 {
        for mut one in story(number) {
            one.environment = "preview/pr 7 & co=ä".to_owned();
            github.deliver(&one, 1).await.unwrap();
        }
    }
    bench.clean();
    let deployments = bench.model.deployments();
    assert!(
        deployments
            .iter()
            .all(|one| !one.production && !one.transient)
    );
    let last = deployments[0].statuses.last().unwrap();
    assert_eq!(
        (last.state.as_str(), last.author),
        ("inactive", Author::Github)
    );
    assert_eq!(deployments[1].state(), Some("success"));
}

#[tokio::test]
async fn a_description_of_any_length_fits() {
    let bench = Bench::new().await;
    let long = "Größe über alles, 新しいリリース, ".repeat(20);
    let github = bench.github();
    let one = message(1, DeploymentState::InProgress, &long);
    github.deliver(&one, 1).await.unwrap();
    // The repetition compares what was cut with what was cut.
    github.deliver(&one, 2).await.unwrap();
    bench.clean();
    let told = bench.model.history("production");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.chars().count(), 140);
}

#[tokio::test]
async fn a_later_process_finds_the_deployment_again() {
    let bench = Bench::new().await;
    for one in story(1) {
        bench.github().deliver(&one, 1).await.unwrap();
    }
    bench.told_once_in_order(&story(1));
    assert_eq!(bench.model.deployments().len(), 1);
}

#[tokio::test]
async fn the_second_message_of_a_deploy_is_one_call() {
    let bench = Bench::new().await;
    let github = bench.github();
    github.deliver(&story(1)[0], 1).await.unwrap();
    let before = bench.model.calls().len();
    github.deliver(&story(1)[1], 1).await.unwrap();
    assert_eq!((before, bench.model.calls().len()), (3, 4));
}

#[tokio::test]
async fn a_commit_that_github_does_not_have_is_given_up_and_the_next_deploy_goes_on() {
    let bench = Bench::new().await;
    let mut lost = message(1, DeploymentState::Queued, "Waiting");
    lost.sha = "0".repeat(40);
    bench.tell(&[lost.clone()]);
    bench.tell(&story(2));
    let running = bench.report();
    bench.delivered().await;
    running.abort();
    bench.told_once_in_order(&story(2));
    let never = bench.github().deliver(&lost, 1).await;
    assert!(
        matches!(&never, Err(DeliveryError::Never(reason)) if reason.contains("No ref found")),
        "{never:?}"
    );
}

#[tokio::test]
async fn a_merge_instead_of_a_deployment_is_no_deployment() {
    let bench = Bench::new().await;
    bench.model.fail_call(2, Fault::AutoMerged);
    let first = bench.github().deliver(&story(1)[0], 1).await;
    assert!(
        matches!(&first, Err(DeliveryError::Later { reason, .. }) if reason.contains("202: Auto-merged")),
        "{first:?}"
    );
    bench.github().deliver(&story(1)[0], 2).await.unwrap();
    bench.told_once_in_order(&story(1)[..1]);
}

#[tokio::test]
async fn a_conflict_is_told_in_githubs_words() {
    let bench = Bench::new().await;
    bench.model.fail_call(2, Fault::Status(409));
    let first = bench.github().deliver(&story(1)[0], 1).await;
    assert!(
        matches!(&first, Err(DeliveryError::Never(reason)) if reason.contains("409: Something is wrong")),
        "{first:?}"
    );
}

#[tokio::test]
async fn a_deleted_deployment_is_not_made_again() {
    let bench = Bench::new().await;
    let github = bench.github();
    github.deliver(&story(1)[0], 1).await.unwrap();
    bench
        .model
        .delete_deployment(bench.model.deployments()[0].id);
    let after = github.deliver(&story(1)[1], 1).await;
    assert!(matches!(after, Err(DeliveryError::Never(_))), "{after:?}");
}

#[tokio::test]
async fn a_repository_that_is_no_path_is_refused_without_a_call() {
    let bench = Bench::new().await;
    let mut odd = message(1, DeploymentState::Queued, "Waiting");
    odd.repository = "acme/shop/../other".to_owned();
    let refused = bench.github().deliver(&odd, 1).await;
    assert!(
        matches!(refused, Err(DeliveryError::Never(_))),
        "{refused:?}"
    );
    assert_eq!(bench.model.calls(), []);
}
