//! `cutover-agent check`.

use crate::host::Host;

#[test]
fn a_configuration_that_is_in_order_is_told_with_its_apps() {
    let host = Host::new();
    let ended = host.run(&["check"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.stdout.contains("in order; apps: shop"), "{ended:?}");
}

#[test]
fn every_mistake_is_told_and_the_secret_is_not() {
    let host = Host::new();
    host.write("secret", "hunter2");
    host.write("apps/blog.toml", "image = 3\n");
    let ended = host.run(&["check"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""), "{ended:?}");
    for part in ["secret: the secret has 7 bytes", "blog.toml:1:", "found"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("hunter2"));
}
