//! Deploys on real parts: engine, registry, proxy, agent, command line.

use cutover_tests::image;
use cutover_tests::rig::{Rig, Setup};

#[tokio::test]
async fn a_first_deploy_serves_and_a_second_takes_over() -> anyhow::Result<()> {
    let rig = Rig::start("first", &Setup::default()).await?;
    let one = image::build("first", &[("VERSION", "1")]).await?;
    let two = image::build("first", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    assert_eq!(rig.version().await?, "1");
    rig.must_deploy(&two).await?;
    assert_eq!(rig.version().await?, "2");
    assert_eq!(
        rig.containers().await?,
        ["cutover-first-v1-0", "cutover-first-v2-0"]
    );
    let rolled_back = rig.run(&["rollback", "--app", "first"]).await?;
    assert_eq!(rolled_back.code, 0, "{}", rolled_back.text);
    assert_eq!(rig.version().await?, "1");
    Ok(())
}
