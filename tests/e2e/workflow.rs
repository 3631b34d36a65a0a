//! The workflow's step against the real agent: `action.yml`, run as a runner
//! does, deploys to a host of real parts, and GitHub's model is told the same.

use std::path::Path;

use cutover_tests::github::GithubModel;
use cutover_tests::image::{self, Image};
use cutover_tests::rig::{Rig, SECRET, Setup};

#[expect(dead_code, reason = "cancelling is tested against the stand-in agent")]
#[path = "../action/runner.rs"]
mod runner;

use runner::{Action, Ran, program};

const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";

async fn step(url: String, secret: &str, app: &str, image: String) -> anyhow::Result<Ran> {
    let (secret, app) = (secret.to_owned(), app.to_owned());
    let run = move || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Action::new(root.unwrap_or(Path::new("..")))
            .input("url", &url)
            .input("secret", &secret)
            .input("app", &app)
            .input("image", &image)
            .input("cutover-path", &program("cutover").display().to_string())
            .env("CUTOVER_RETRY_FOR", "1s")
            .event(&format!(
                r#"{{"pull_request":{{"head":{{"sha":"{HEAD}"}}}}}}"#
            ))
            .run()
    };
    Ok(tokio::task::spawn_blocking(run).await?)
}

async fn deploy(rig: &Rig, image: &Image) -> anyhow::Result<Ran> {
    step(
        format!("http://{}", rig.calls),
        SECRET,
        &rig.app,
        image.reference(),
    )
    .await
}

fn states(model: &GithubModel) -> Vec<String> {
    model
        .history("production")
        .into_iter()
        .map(|(state, _)| state)
        .collect()
}

#[tokio::test]
async fn a_step_is_green_when_the_release_serves_and_red_when_it_was_bad() -> anyhow::Result<()> {
    let github = GithubModel::start(&["acme/step"]).await?;
    let setup = Setup {
        github: Some(github.url()),
        ..Setup::default()
    };
    let mut rig = Rig::start("step", &setup).await?;
    let good = image::build("step", &[("VERSION", "1")]).await?;
    let bad = image::build("step", &[("VERSION", "2"), ("EXIT_AT_START", "1")]).await?;

    let ran = deploy(&rig, &good).await?;
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], "promoted");
    assert_eq!(ran.outputs["release"], "1");
    assert_eq!(ran.outputs["digest"], good.digest);
    assert_eq!(ran.outputs["environment-url"], "http://step.test");
    assert_eq!(rig.version().await?, "1");

    let ran = deploy(&rig, &bad).await?;
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], "failed");
    assert!(ran.summary.contains("v1 serves"), "{ran:#?}");
    assert!(ran.log.contains("exited"), "{ran:#?}");
    assert!(!ran.annotations.is_empty());
    assert_eq!(rig.version().await?, "1");

    let url = format!("http://{}", rig.calls);
    let ran = step(
        url.clone(),
        "another secret of twenty-four",
        "step",
        good.reference(),
    )
    .await?;
    assert_eq!(ran.status, Some(4), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], "refused");

    rig.kill_agent().await?;
    let ran = step(url, SECRET, "step", good.reference()).await?;
    assert_eq!(ran.status, Some(5), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], "unreachable");
    assert_eq!(
        rig.version().await?,
        "1",
        "the proxy serves without its agent"
    );

    // What was not delivered before the kill is delivered after it.
    rig.start_agent().await?;
    cutover_tests::wait::eventually(
        "GitHub knows the end",
        std::time::Duration::from_secs(20),
        async || {
            states(&github)
                .last()
                .is_some_and(|state| state == "failure")
        },
    )
    .await?;
    assert_eq!(
        states(&github),
        [
            "queued",
            "in_progress",
            "in_progress",
            "success",
            "queued",
            "in_progress",
            "failure"
        ]
    );
    assert!(
        github
            .deployments()
            .iter()
            .all(|deployment| deployment.sha == HEAD)
    );
    assert_eq!(github.violations(), Vec::<String>::new());
    Ok(())
}
