use super::check;

#[test]
fn hooks_have_a_command_and_a_time() {
    check("[hooks]", &[]);
    check(
        "[hooks.before_start]\ncommand = ['./migrate', 'up']\ntimeout = '1s'\n[hooks.on_failure]\ncommand = ['x']",
        &[],
    );
    check(
        "[hooks.before_start]\n[hooks.after]\n[hooks.after_shift]\ncommand = []\ntimeout = '0s'",
        &[
            "4:1: command: is missing from [hooks.before_start] (hint: write command = [\"./migrate\"])",
            "5:8: after: is not known in [hooks] (hint: known are after_shift, after_success, before_shift, before_start, on_failure)",
            "7:11: command: must have 1 to 100 items",
            "8:11: timeout \"0s\": must be from 1s to 1h",
        ],
    );
    check(
        "hooks.before_shift = './smoke'",
        &[
            "4:22: before_shift \"./smoke\": expected a table, found a string (hint: write [hooks.before_shift] and its keys below)",
        ],
    );
}

#[test]
fn an_approval_waits_for_a_bounded_time() {
    check("[approval]", &[]);
    check(
        "[approval]\nbefore = 'full'\ndeadline = '168h'\non_timeout = 'promote'",
        &[],
    );
    check(
        "[approval]\nbefore = 'shifts'\ndeadline = '59s'\non_timeout = 'go'",
        &[
            "5:10: before \"shifts\": is not one of shift, full (hint: did you mean shift?)",
            "6:12: deadline \"59s\": must be from 1m to 168h",
            "7:14: on_timeout \"go\": is not one of abort, promote",
        ],
    );
}

#[test]
fn a_newcomer_queues_supersedes_or_is_refused() {
    check(
        "[supersede]\nbefore_shift = 'queue'\nafter_shift = 'reject'",
        &[],
    );
    check(
        "[supersede]\nbefore_shift = 'wait'\nafter_shift = true",
        &[
            "5:16: before_shift \"wait\": is not one of queue, supersede, reject",
            "6:15: after_shift true: expected a string, found a boolean (hint: put it in quotes)",
        ],
    );
}
