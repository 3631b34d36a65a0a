use crate::spec;

fn check(file: &str, expected: &[&str]) {
    let text = format!("image = \"ghcr.io/acme/shop\"\ndomains = [\"a\"]\nport = 80\n{file}");
    let spec = spec::parse("apps/shop.toml", "shop", &text).unwrap();
    let needs = spec.needs();
    let told: Vec<_> = needs
        .iter()
        .map(|need| format!("{}: {}", need.key, need.ability))
        .collect();
    assert_eq!(told, expected, "{file}");
}

#[test]
fn an_app_needs_what_its_file_asks_for() {
    const REPLICAS: &str = "several containers of one release";
    const WEIGHTS: &str = "shares of users for two releases at once";
    check("", &[]);
    check("strategy = \"red-black\"", &[]);
    check("replicas = 2", &[&format!("replicas = 2: {REPLICAS}")]);
    check(
        "strategy = \"canary\"",
        &[
            &format!("strategy = \"canary\": {WEIGHTS}"),
            "canary.affinity: clients that stay with a release while shares change",
        ],
    );
    check(
        "strategy = \"canary\"\n[canary]\naffinity = \"none\"",
        &[&format!("strategy = \"canary\": {WEIGHTS}")],
    );
    check(
        "strategy = \"rolling\"",
        &[
            &format!("strategy = \"rolling\": {REPLICAS}"),
            &format!("strategy = \"rolling\": {WEIGHTS}"),
        ],
    );
    check(
        "strategy = \"in-place\"",
        &["strategy = \"in-place\": holding requests while no release answers"],
    );
    check(
        "strategy = \"shadow\"",
        &["strategy = \"shadow\": copies of requests"],
    );
    check("[approval]", &["[approval]: waiting for a person"]);
    check(
        "[watch]\non_no_verdict = \"hold\"",
        &["watch.on_no_verdict = \"hold\": waiting for a person"],
    );
}
