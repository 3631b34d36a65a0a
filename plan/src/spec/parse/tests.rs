mod forms;
mod health;
mod notify;
mod people;
mod properties;
mod rules;
mod run;
mod strategy;

use super::*;
use crate::spec::{Bytes, MilliCpus, OnNoVerdict, Rate, Volume};

const EXAMPLE: &str = include_str!("../../../../packaging/examples/shop.toml");

/// Every key, each with another value than its default.
pub(in crate::spec) const EVERY_KEY: &str = include_str!("tests/every_key.toml");

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = parse("shop.toml", "shop", text).err().unwrap_or_default();
    mistakes.iter().map(Mistake::to_string).collect()
}

/// Puts `lines` below the required keys, of which those that `lines` sets are left out.
fn check(lines: &str, expected: &[&str]) {
    let required = [
        "image = 'ghcr.io/acme/shop'",
        "domains = ['*']",
        "port = 80",
    ];
    let mut text = String::new();
    for line in required {
        let key = line.split(' ').next().unwrap();
        let is_set = lines.starts_with(&format!("{key} "));
        text.push_str(if is_set { "" } else { line });
        text.push('\n');
    }
    text.push_str(lines);
    let place = |mistake: &&str| format!("shop.toml:{mistake}");
    let expected: Vec<String> = expected.iter().map(place).collect();
    assert_eq!(mistakes(&text), expected, "{lines}");
}

#[test]
fn the_example_says_what_it_seems_to() {
    let spec = parse("shop.toml", "shop", EXAMPLE).unwrap();
    assert_eq!(spec.app.as_str(), "shop");
    assert_eq!(spec.image.as_str(), "ghcr.io/acme/shop");
    assert_eq!(spec.domains, ["shop.example.com"]);
    assert_eq!(
        (spec.path_prefix.as_str(), spec.strategy),
        ("/", Strategy::BlueGreen)
    );
    assert_eq!(spec.drain_deadline, seconds(30));
    let run = &spec.run;
    assert_eq!(
        (run.port, run.env_file.as_deref()),
        (8080, Some("/etc/cutover/shop.env"))
    );
    assert_eq!(run.env.0["LOG_LEVEL"], "info");
    assert_eq!(
        (run.memory, run.cpus),
        (Some(Bytes(512 << 20)), Some(MilliCpus(1_500)))
    );
    assert_eq!((run.pids, run.stop_grace), (Some(200), seconds(10)));
    let volume = |source: &str, target: &str, read_only| {
        let (source, target) = (source.to_owned(), target.to_owned());
        Volume {
            source,
            target,
            read_only,
        }
    };
    let theme = volume("/srv/shop/theme", "/theme", true);
    assert_eq!(run.volumes, [volume("shop-data", "/data", false), theme]);
    assert_eq!(
        (
            spec.health.question.to_string().as_str(),
            spec.health.successes
        ),
        ("GET /healthz", 2)
    );
    assert_eq!(
        (spec.health.interval, spec.health.timeout),
        (seconds(1), seconds(5))
    );
    assert_eq!(spec.health.deadline, seconds(60));
    assert_eq!(
        (spec.watch.window, spec.watch.max_error_rate),
        (seconds(300), Rate(1_000))
    );
    assert_eq!(spec.watch.max_latency_p99, Some(Duration::from_millis(800)));
    let policy = (spec.watch.min_requests, spec.watch.on_no_verdict);
    assert_eq!(policy, (20, OnNoVerdict::Promote));
    let github = spec.github.unwrap();
    assert_eq!(
        (github.repository.as_str(), github.environment.as_str()),
        ("acme/shop", "production")
    );
    assert_eq!(github.url.as_deref(), Some("https://shop.example.com"));
}

#[test]
fn the_defaults_in_the_example_are_the_defaults() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(uncommented, EXAMPLE);
    let spec = parse("shop.toml", "shop", &uncommented).unwrap();
    assert_eq!(spec, parse("shop.toml", "shop", EXAMPLE).unwrap());
}

#[test]
fn all_mistakes_of_a_file_show_at_once() {
    let text = r#"
image = "shop:latest"
domains = ["Shop.example.com", "a.example.com", "a.example.com"]
replica = 2
strategy = "bluegreen"
port = 0
stop_grace = 10

[env]
TOKEN = 12345
"A B" = "hunter2"

[limits]
memory = "512"
cpus = "2"
pid = 5

[health]
path = "healthz"
deadline = "2h"

[watch]
max_error_rate = "1.5"
on_no_verdict = "rolback"

[github]
environment = "production"
drain_deadline = "5s"
"#;
    let expected = [
        "2:9: image \"shop:latest\": must name its registry, for example ghcr.io/acme/shop",
        "3:12: domains \"Shop.example.com\": must be in lower case (hint: write \"shop.example.com\")",
        "3:49: domains \"a.example.com\": is listed twice",
        "4:1: replica: is not known here (hint: did you mean replicas?)",
        "5:12: strategy \"bluegreen\": is not one of blue-green, red-black, canary, rolling, in-place, shadow (hint: did you mean blue-green?)",
        "6:8: port 0: must be from 1 to 65535",
        "7:14: stop_grace 10: expected a string, found an integer (hint: write \"90s\" or \"1m 30s\")",
        "10:9: TOKEN: expected a string, found an integer (hint: put it in quotes)",
        "11:1: \"A B\": is not the name of a variable (hint: write letters, digits and _, not beginning with a digit)",
        "14:10: memory \"512\": is not a number of bytes with its unit (hint: write \"512MiB\" or \"1GiB\")",
        "15:8: cpus \"2\": expected a number, found a string (hint: write it without quotes)",
        "16:1: pid: is not known in [limits] (hint: did you mean pids?)",
        "19:8: path \"healthz\": must begin with /",
        "20:12: deadline \"2h\": must be from 1ms to 1h",
        "23:18: max_error_rate \"1.5\": is not a share with a percent sign (hint: write \"1%\" or \"0.5%\")",
        "24:17: on_no_verdict \"rolback\": is not one of promote, abort, extend, hold",
        "26:1: repository: is missing from [github] (hint: write repository = \"acme/shop\")",
        "28:1: drain_deadline: is not known in [github] (hint: drain_deadline belongs above the first [table])",
    ];
    let expected: Vec<String> = expected.iter().map(|m| format!("shop.toml:{m}")).collect();
    assert_eq!(mistakes(text), expected);
}

#[test]
fn an_empty_file_lacks_the_three_keys_without_default() {
    let expected = [
        "shop.toml:1:1: image: is missing (hint: write image = \"ghcr.io/acme/shop\")",
        "shop.toml:1:1: domains: is missing (hint: write domains = [\"shop.example.com\"])",
        "shop.toml:1:1: port: is missing (hint: write port = 8080)",
    ];
    assert_eq!(mistakes(""), expected);
}

#[test]
fn the_name_of_the_file_is_checked_as_the_app() {
    let mistakes = parse("Shop.toml", "Shop", EXAMPLE).unwrap_err();
    let expected = "Shop.toml:1:1: Shop: must be lower-case letters, digits and inner hyphens (hint: rename the file: its stem is the app)";
    assert_eq!(mistakes[0].to_string(), expected);
}

#[test]
fn every_strategy_is_taken_by_its_name() {
    for strategy in Strategy::ALL {
        let text = EXAMPLE.replace("blue-green", strategy.as_str());
        let spec = parse("shop.toml", "shop", &text).unwrap();
        assert_eq!(spec.strategy, strategy);
    }
}

#[test]
fn every_key_is_read() {
    assert_eq!(mistakes(EVERY_KEY), Vec::<String>::new());
    let spec = parse("shop.toml", "shop", EVERY_KEY).unwrap();
    assert!(spec.windows.is_some());
    insta::assert_debug_snapshot!(AppSpec {
        windows: None,
        ..spec
    });
}

#[test]
fn a_file_without_tables_has_the_documented_defaults() {
    let text = "image = 'ghcr.io/acme/shop'\ndomains = ['*']\nport = 80";
    let spec = parse("shop.toml", "shop", text).unwrap();
    assert_eq!(spec.replicas, 1);
    assert_eq!(spec.progress_deadline, seconds(1800));
    assert_eq!(spec.standby, seconds(600));
    assert_eq!(spec.drain_deadline, seconds(30));
    assert_eq!(
        (spec.preview, spec.approval, spec.github),
        (None, None, None)
    );
    assert_eq!(spec.hooks, HooksSpec::default());
}

#[test]
fn no_wait_is_longer_than_what_counts_as_no_progress() {
    let hint = |wait: &str, name: &str| {
        format!("(hint: set a progress_deadline above {wait}, or a shorter {name})")
    };
    check(
        "progress_deadline = '1h 1s'\ndrain_deadline = '1h'\n[health]\ndeadline = '1h'",
        &[],
    );
    check(
        "drain_deadline = '1h'",
        &[&format!(
            "1:1: progress_deadline: 30m is not longer than drain_deadline of 1h {}",
            hint("1h", "drain_deadline")
        )],
    );
    check(
        "progress_deadline = '1m'",
        &[&format!(
            "4:21: progress_deadline \"1m\": 1m is not longer than health.deadline of 1m {}",
            hint("1m", "health.deadline")
        )],
    );
    check(
        "[hooks.on_failure]\ncommand = ['x']\ntimeout = '30m'",
        &[&format!(
            "1:1: progress_deadline: 30m is not longer than hooks.on_failure.timeout of 30m {}",
            hint("30m", "hooks.on_failure.timeout")
        )],
    );
    check(
        "progress_deadline = '59s'\nstandby = '168h 1s'\nreplicas = 101",
        &[
            "4:21: progress_deadline \"59s\": must be from 1m to 24h",
            "5:11: standby \"168h 1s\": must be from 0s to 168h",
            "6:12: replicas 101: must be from 1 to 100",
        ],
    );
}
