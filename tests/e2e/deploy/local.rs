//! What a person asks on the host, and from afar.

use cutover_tests::image;
use cutover_tests::rig::{Ran, Rig, Setup};
use serde_json::Value;

async fn local(rig: &Rig, arguments: &[&str]) -> anyhow::Result<Ran> {
    Ok(Ran::from(rig.local(arguments)?.output().await?))
}

#[tokio::test]
async fn the_socket_takes_every_verb_without_a_secret() -> anyhow::Result<()> {
    let app = "local";
    let rig = Rig::start(app, &Setup::default()).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?.reference();
    let two = image::build(app, &[("VERSION", "2")]).await?.reference();
    let deploy = |image| ["deploy", "--app", app, "--image", image];

    let verified = local(&rig, &["verify"]).await?;
    assert_eq!(verified.code, 0, "{}", verified.text);
    assert!(verified.text.contains("no signature is needed"));

    let ran = local(&rig, &["status"]).await?;
    assert!(ran.text.contains("nothing yet"), "{}", ran.text);
    let ran = local(&rig, &["rollback", "--app", app]).await?;
    assert_ne!(
        ran.code, 0,
        "there is nothing to roll back to: {}",
        ran.text
    );

    let ran = local(&rig, &deploy(&one)).await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.version().await?, "1");

    // A plan moves nothing.
    let before = (rig.status().await?, rig.containers().await?);
    let planned = local(&rig, &["plan", "--app", app, "--image", &two]).await?;
    assert_eq!(planned.code, 0, "{}", planned.text);
    for step in ["pull", "start", "gate", "shift", "watch", "drain"] {
        assert!(planned.text.contains(step), "{step}: {}", planned.text);
    }
    assert_eq!((rig.status().await?, rig.containers().await?), before);
    assert_eq!(rig.version().await?, "1");

    let ran = local(&rig, &deploy(&two)).await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.version().await?, "2");
    let status = rig.status().await?;
    for (place, expected) in [
        ("/serving/condition", "running"),
        ("/serving/standing", "proven"),
        ("/serving/image", &two),
        ("/standby/condition", "running"),
        ("/last/outcome", "promoted"),
    ] {
        let found = status.pointer(place).and_then(Value::as_str);
        assert_eq!(found, Some(expected), "{place} in {status:#}");
    }
    for (place, number) in [
        ("/serving/number", 2),
        ("/standby/number", 1),
        ("/last/release", 2),
    ] {
        let found = status.pointer(place).and_then(Value::as_u64);
        assert_eq!(found, Some(number), "{place} in {status:#}");
    }
    let shown = local(&rig, &["status", "--app", app]).await?;
    for part in ["serving    v2", "standby    v1", "last       v2 promoted"] {
        assert!(shown.text.contains(part), "{part:?}: {}", shown.text);
    }

    // The same image again is the release that serves.
    let ran = local(&rig, &deploy(&two)).await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.status().await?["serving"]["number"], 2);

    let ran = local(&rig, &["rollback", "--app", app]).await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert!(ran.text.contains("v1 serves"), "{}", ran.text);
    assert_eq!(rig.version().await?, "1");
    assert_eq!(
        rig.containers().await?,
        ["cutover-local-v1-0", "cutover-local-v2-0"]
    );
    let ran = local(&rig, &["abort", "--app", app]).await?;
    assert!(
        ran.text.contains("nothing is being deployed"),
        "{}",
        ran.text
    );
    Ok(())
}

#[tokio::test]
async fn verify_tells_a_wrong_secret_from_an_agent_that_is_away() -> anyhow::Result<()> {
    let mut rig = Rig::start("verified", &Setup::default()).await?;
    let good = rig.run(&["verify"]).await?;
    assert_eq!(good.code, 0, "{}", good.text);
    for part in [
        "✓ the signature is accepted",
        "the clocks agree",
        "verified",
    ] {
        assert!(good.text.contains(part), "{part:?}: {}", good.text);
    }

    let mut wrong = rig.cutover(&["verify"])?;
    wrong.env("CUTOVER_SECRET", "another secret of thirty-two bytes");
    let wrong = Ran::from(wrong.output().await?);
    assert_eq!(wrong.code, 4, "{}", wrong.text);
    assert!(
        wrong.text.contains("✗ the signature is not accepted"),
        "{}",
        wrong.text
    );

    rig.kill_agent().await?;
    let away = rig.run(&["verify", "--retry-for", "1s"]).await?;
    assert_eq!(away.code, 5, "{}", away.text);
    assert!(
        away.text.contains("✗ no agent was reached"),
        "{}",
        away.text
    );
    Ok(())
}
