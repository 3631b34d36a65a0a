mod forms;
mod properties;

use super::*;

const EXAMPLE: &str = include_str!("../../../../packaging/examples/shop.toml");

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
        (spec.health.path.as_str(), spec.health.successes),
        ("/healthz", 2)
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
replicas = 2
strategy = "canary"
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
        "4:1: replicas: is not known here (hint: known are domains, drain_deadline, env, env_file, github, health, image, limits, path_prefix, port, stop_grace, strategy, volumes, watch)",
        "5:12: strategy \"canary\": is a strategy that this version does not carry out yet (hint: write \"blue-green\")",
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
        "24:17: on_no_verdict \"rolback\": is not one of promote, rollback (hint: did you mean rollback?)",
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
fn strategies_of_later_versions_are_told_from_slips() {
    let later =
        "is a strategy that this version does not carry out yet (hint: write \"blue-green\")";
    for name in ["canary", "rolling", "red-black", "in-place", "shadow"] {
        let expected = format!("4:12: strategy {name:?}: {later}");
        check(&format!("strategy = '{name}'"), &[&expected]);
    }
    check(
        "strategy = 'bluegreen'",
        &[
            "4:12: strategy \"bluegreen\": is not one of blue-green (hint: did you mean blue-green?)",
        ],
    );
}

#[test]
fn variables_are_strings_and_never_show() {
    check(
        "[env]\nA = ''\n_b1 = 'x'\n'discovery.type' = 'single-node'",
        &[],
    );
    let string = "expected a string, found";
    check(
        "[env]\nA = true\nB = 1.5\nC = ['hunter2']\nD.E = 'hunter2'",
        &[
            &format!("5:5: A: {string} a boolean (hint: put it in quotes)"),
            &format!("6:5: B: {string} a float (hint: put it in quotes)"),
            &format!("7:5: C: {string} an array"),
            &format!("8:1: D: {string} a table"),
        ],
    );
    check(
        "[env]\nA = \"hunter2\\u0000\"",
        &["5:5: A: must not contain a NUL character"],
    );
    check(
        "env = 'hunter2'",
        &["4:7: env: expected a table, found a string (hint: write [env] and its keys below)"],
    );
    let name = "is not the name of a variable (hint: write letters, digits and _, not beginning with a digit)";
    check(
        "[env]\n1A = ''\n'B=C' = ''\n'' = ''",
        &[
            &format!("5:1: 1A: {name}"),
            &format!("6:1: \"B=C\": {name}"),
            &format!("7:1: \"\": {name}"),
        ],
    );
    let spec = parse("f", "shop", &EXAMPLE.replace("\"info\"", "\"hunter2\"")).unwrap();
    assert!(!format!("{spec:?}").contains("hunter2"));
}

#[test]
fn limits_have_units_and_bounds() {
    check("[limits]\nmemory = '6MiB'\ncpus = 1\npids = 1", &[]);
    check(
        "[limits]\nmemory = 536870912",
        &[
            "5:10: memory 536870912: expected a string, found an integer (hint: write \"512MiB\" or \"1GiB\")",
        ],
    );
    check(
        "[limits]\nmemory = '5MiB'\ncpus = 0.001\npids = 0",
        &[
            "5:10: memory \"5MiB\": must be from 6 MiB to 65536 GiB",
            "6:8: cpus 0.001: must be from 0.01 to 4096",
            "7:8: pids 0: must be from 1 to 4194304",
        ],
    );
    for cpus in ["-1", "nan", "inf", "1e2", "0.0001"] {
        let fault = "is not a number of cores with at most three decimals (hint: write 2 or 1.5)";
        check(
            &format!("[limits]\ncpus = {cpus}"),
            &[&format!("5:8: cpus {cpus}: {fault}")],
        );
    }
}

#[test]
fn every_wait_has_a_deadline() {
    check(
        "stop_grace = '10m'\ndrain_deadline = '1h'\n[health]\ndeadline = '1h'\n[watch]\nwindow = '24h'",
        &[],
    );
    check(
        "stop_grace = '10m 1s'\ndrain_deadline = '1h 1s'\n[health]\ndeadline = '1h 1s'\n[watch]\nwindow = '24h 1s'",
        &[
            "4:14: stop_grace \"10m 1s\": must be from 0s to 10m",
            "5:18: drain_deadline \"1h 1s\": must be from 0s to 1h",
            "7:12: deadline \"1h 1s\": must be from 1ms to 1h",
            "9:10: window \"24h 1s\": must be from 1s to 24h",
        ],
    );
    check(
        "[watch]\nwindow = 'soon'\nmin_requests = 0\nmax_error_rate = 0.01",
        &[
            "5:10: window \"soon\": is not a duration (hint: write \"90s\", \"1m 30s\" or \"200ms\", in whole numbers)",
            "6:16: min_requests 0: must be from 1 to 1000000000",
            "7:18: max_error_rate 0.01: expected a string, found a float (hint: write \"1%\" or \"0.5%\")",
        ],
    );
}

#[test]
fn a_gate_that_no_container_can_pass_is_refused() {
    check("[health]\ninterval = '1s'\nsuccesses = 59", &[]);
    let hint = "(hint: ask for fewer successes, a shorter interval or a later deadline)";
    check(
        "[health]\nsuccesses = 60",
        &[&format!(
            "5:13: successes 60: 60 questions take 1m, which does not fit the deadline of 1m {hint}"
        )],
    );
    check(
        "[health]\nsuccesses = 4294967295",
        &[&format!(
            "5:13: successes 4294967295: 4294967295 questions take 1193046h 28m 15s, which does not fit the deadline of 1m {hint}"
        )],
    );
    check(
        "[health]\nsuccesses = 0",
        &["5:13: successes 0: must be from 1 to 4294967295"],
    );
    check(
        "[health]\ndeadline = '1s'",
        &[
            "4:1: timeout: one answer may take 5s, longer than the deadline of 1s (hint: set a timeout below the deadline)",
            "4:1: interval: one question in 1s does not fit the deadline of 1s (hint: set an interval well below the deadline)",
        ],
    );
    check(
        "[health]\ntimeout = '2m'",
        &[
            "5:11: timeout \"2m\": one answer may take 2m, longer than the deadline of 1m (hint: set a timeout below the deadline)",
        ],
    );
}
