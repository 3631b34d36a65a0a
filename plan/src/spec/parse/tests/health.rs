use super::check;

#[test]
fn every_wait_has_a_deadline() {
    check(
        "stop_grace = '10m'\ndrain_deadline = '1h'\nprogress_deadline = '2h'\n[health]\ndeadline = '1h'\n[watch]\nwindow = '24h'",
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

#[test]
fn a_container_is_asked_in_one_way() {
    check("[health]\ntcp = true\ndocker = 'require'", &[]);
    check("[health]\ncommand = ['pg_isready', '-q']", &[]);
    check("[health]\npath = '/up'\ntcp = false", &[]);
    let hint = "(hint: a container is asked in one way: keep one of path, tcp and command)";
    check(
        "[health]\npath = '/up'\ntcp = true",
        &[&format!(
            "6:7: tcp true: and path exclude each other {hint}"
        )],
    );
    check(
        "[health]\npath = '/up'\ncommand = ['true']",
        &[&format!(
            "6:11: command: and path exclude each other {hint}"
        )],
    );
    check(
        "[health]\ntcp = true\ncommand = ['true']",
        &[&format!("6:11: command: and tcp exclude each other {hint}")],
    );
    check(
        "[health]\ncommand = []",
        &["5:11: command: must have 1 to 100 items"],
    );
    check(
        "[health]\ncommand = 'pg_isready -q'\ntcp = 1",
        &[
            "5:11: command \"pg_isready -q\": expected an array, found a string (hint: write each word by itself: [\"./app\", \"--verbose\"])",
            "6:7: tcp 1: expected a boolean, found an integer (hint: write true or false, without quotes)",
        ],
    );
}

#[test]
fn the_images_own_check_is_ignored_or_required() {
    check("[health]\ndocker = 'require'", &[]);
    check(
        "[health]\ndocker = true",
        &["5:10: docker true: expected a string, found a boolean (hint: put it in quotes)"],
    );
    check(
        "[health]\ndocker = 'required'",
        &["5:10: docker \"required\": is not one of ignore, require (hint: did you mean require?)"],
    );
}

#[test]
fn a_verdict_is_waited_for_no_shorter_than_the_window() {
    check(
        "[watch]\nwindow = '24h'\non_no_verdict = 'extend'\nextend_to = '24h'\nhold_deadline = '168h'",
        &[],
    );
    let hint = "(hint: it is the whole watch, not what is added to it)";
    check(
        "[watch]\nwindow = '5m'\nextend_to = '4m'",
        &[&format!(
            "6:13: extend_to \"4m\": 4m is shorter than the window of 5m {hint}"
        )],
    );
    check(
        "[watch]\nextend_to = '169h'\nhold_deadline = '59s'\nmin_compared = 0\nmin_difference = '101%'",
        &[
            "5:13: extend_to \"169h\": must be from 1s to 168h",
            "6:17: hold_deadline \"59s\": must be from 1m to 168h",
            "7:16: min_compared 0: must be from 1 to 1000000000",
            "8:18: min_difference \"101%\": is more than 100% (hint: write \"1%\" or \"0.5%\")",
        ],
    );
}
