use super::check;

#[test]
fn weights_rise_to_all_users() {
    let weights = |text: &str, expected: &[&str]| {
        check(&format!("[canary]\nweights = {text}"), expected);
    };
    weights("[5, 100]", &[]);
    weights("[0.01, 0.25, 99.99, 100]", &[]);
    weights("[1, 100.0]", &[]);
    weights(
        "[5, 5, 50, 25, 100]",
        &[
            "5:15: weights 5: is not above the one before it",
            "5:22: weights 25: is not above the one before it",
        ],
    );
    let hint = "(hint: write 5 or 0.25, in percent)";
    weights(
        "[-1, 0.001, '5%', nan, 101, 100]",
        &[
            &format!("5:12: weights -1: is not a percentage with at most two decimals {hint}"),
            &format!("5:16: weights 0.001: is not a percentage with at most two decimals {hint}"),
            "5:23: weights \"5%\": expected a number, found a string (hint: write it without quotes)",
            &format!("5:29: weights nan: is not a percentage with at most two decimals {hint}"),
            &format!("5:34: weights 101: is more than 100 {hint}"),
        ],
    );
    weights(
        "[5, 50]",
        &["5:11: weights: must end with 100: in the end everybody gets the new release"],
    );
    weights(
        "[100]",
        &[
            "5:11: weights: has no stage below 100 (hint: write [5, 25, 50, 100], or choose strategy = \"blue-green\")",
        ],
    );
    weights("[]", &["5:11: weights: must have 1 to 20 items"]);
    let twenty = |from: u32| {
        let steps: Vec<String> = (from..=19).map(|step| step.to_string()).collect();
        format!("[{}, 100]", steps.join(", "))
    };
    weights(&twenty(1), &[]);
    check(
        &format!(
            "[canary]\nweights = {}\nrules = [{{ header = 'a', equals = 'b' }}]",
            twenty(0)
        ),
        &["5:11: weights: must have 1 to 20 items"],
    );
}

#[test]
fn a_stage_of_nobody_needs_a_rule() {
    let rule = "rules = [{ header = 'a', equals = 'b' }]";
    check(&format!("[canary]\nweights = [0, 100]\n{rule}"), &[]);
    check(
        "[canary]\nweights = [0, 100]",
        &[
            "5:11: weights: begins with 0, which nobody sees without a rule (hint: begin above 0, or say with [[canary.rules]] who sees it)",
        ],
    );
}

#[test]
fn affinity_names_what_keeps_a_client() {
    for affinity in ["none", "cookie", "address", "header:X-Session"] {
        check(&format!("[canary]\naffinity = '{affinity}'"), &[]);
    }
    check(
        "[canary]\naffinity = 'cookies'",
        &[
            "5:12: affinity \"cookies\": is not one of none, cookie, address, header:NAME (hint: did you mean cookie?)",
        ],
    );
    let name =
        "is not the name of a header or cookie (hint: write 1 to 100 letters, digits, - or _)";
    for affinity in ["header:", "header:a b"] {
        check(
            &format!("[canary]\naffinity = '{affinity}'"),
            &[&format!("5:12: affinity {affinity:?}: {name}")],
        );
    }
    check(
        "[canary]\naffinity = 'none'\nnew_sessions_only = true\nbake = '0s'",
        &["7:8: bake \"0s\": must be from 1s to 24h"],
    );
    check(
        "[canary]\naffinity = 'none'\nnew_sessions_only = true",
        &[
            "6:21: new_sessions_only true: needs an affinity: without one there are no sessions (hint: leave out affinity = \"none\")",
        ],
    );
}

#[test]
fn a_batch_is_no_more_than_there_are() {
    check("replicas = 3\n[rolling]\nbatch = 3\nbake = '24h'", &[]);
    check(
        "[rolling]\nbatch = 2\nbake = '25h'",
        &[
            "5:9: batch 2: is more than the 1 of replicas (hint: set replicas above the first [table], or a smaller batch)",
            "6:8: bake \"25h\": must be from 0s to 24h",
        ],
    );
    // Of two mistakes that hang together the first one is told.
    check(
        "replicas = 0\n[rolling]\nbatch = 2",
        &["4:12: replicas 0: must be from 1 to 100"],
    );
}

#[test]
fn parked_requests_are_bounded() {
    check("[in_place]\npark_requests = 1\npark_deadline = '10m'", &[]);
    check(
        "[in_place]\npark_requests = 0\npark_deadline = '11m'",
        &[
            "5:17: park_requests 0: must be from 1 to 100000",
            "6:17: park_deadline \"11m\": must be from 1s to 10m",
        ],
    );
}

#[test]
fn a_shadow_compares_something() {
    check("[shadow]\nshare = '0.001%'\nthen = 'stop'", &[]);
    check(
        "[shadow]\nshare = '0%'\nwindow = '0s'\nthen = 'go'",
        &[
            "5:9: share \"0%\": must be above 0%: without copies there is nothing to compare",
            "6:10: window \"0s\": must be from 1s to 24h",
            "7:8: then \"go\": is not one of continue, stop",
        ],
    );
}

#[test]
fn a_preview_has_a_secret_and_a_header_of_its_own() {
    check(
        "[preview]\nsecret_file = '/etc/x'\nheader = 'X-Preview'",
        &[],
    );
    check(
        "[preview]",
        &[
            "4:1: secret_file: is missing from [preview] (hint: write secret_file = \"/etc/cutover/shop.preview\")",
        ],
    );
    let own = "is a header with a meaning of its own (hint: take one that nobody sends by chance, like \"cutover-preview\")";
    for header in ["Host", "x-forwarded-for", "cookie"] {
        check(
            &format!("[preview]\nsecret_file = '/etc/x'\nheader = '{header}'"),
            &[&format!("6:10: header {header:?}: {own}")],
        );
    }
    check(
        "[preview]\nsecret_file = 'x'",
        &["5:15: secret_file \"x\": must be an absolute path (hint: begin with /)"],
    );
}

#[test]
fn in_place_lets_nobody_wait_for_a_hook_or_a_preview() {
    let rest = "[hooks.before_shift]\ncommand = ['smoke']\n[preview]\nsecret_file = '/etc/x'";
    check(rest, &[]);
    check(
        &format!("strategy = 'in-place'\n{rest}"),
        &[
            "5:2: hooks: before_shift would run while in-place holds the requests of users (hint: use before_start, or another strategy)",
            "7:1: preview: in-place has no time for a preview: it would hold the requests of users (hint: leave it out, or use another strategy)",
        ],
    );
}
