use super::{EXAMPLE, check, parse};

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
fn memory_in_place_of_a_folder_has_a_target_of_its_own() {
    check("tmpfs = ['/tmp', '/run/:64MiB', '/a:4KiB']", &[]);
    let hint = "(hint: write \"/tmp\" or \"/tmp:64MiB\")";
    let bad = |text: &str, expected: &str| {
        check(
            &format!("tmpfs = ['{text}']"),
            &[&format!("4:10: tmpfs {text:?}: {expected}")],
        );
    };
    let target = format!("its target is not an absolute path without //, . and .. {hint}");
    bad("tmp", &target);
    bad("/a/../b", &target);
    bad("", &target);
    bad(
        "/",
        &format!("its target would hide the whole image {hint}"),
    );
    let size = format!("its size is not a number of bytes with its unit {hint}");
    bad("/tmp:", &size);
    bad("/tmp:64", &size);
    bad("/tmp:rw:64MiB", &size);
    bad("/tmp:1KiB", "its size must be from 4 KiB to 65536 GiB");
    check(
        "volumes = ['data:/data']\ntmpfs = ['/data/', '/tmp', '/tmp:1GiB']",
        &[
            "5:10: tmpfs \"/data/\": has the same target as a volume or tmpfs before it",
            "5:28: tmpfs \"/tmp:1GiB\": has the same target as a volume or tmpfs before it",
        ],
    );
}

#[test]
fn a_user_is_a_name_or_a_number() {
    for user in ["0", "1000:1000", "www-data", "app:0", "_x.y"] {
        check(&format!("user = '{user}'"), &[]);
    }
    let fault =
        "is not user or user:group (hint: write \"1000:1000\", or names that the image knows)";
    for user in [
        "",
        ":",
        "a:",
        ":a",
        "a:b:c",
        "a b",
        "-a",
        "4294967295",
        &"a".repeat(33),
    ] {
        check(
            &format!("user = '{user}'"),
            &[&format!("4:8: user {user:?}: {fault}")],
        );
    }
}

#[test]
fn commands_are_words() {
    check("command = ['serve']\nentrypoint = ['/app', '-v']", &[]);
    check(
        "command = 'serve --verbose'\nentrypoint = []",
        &[
            "4:11: command \"serve --verbose\": expected an array, found a string (hint: write each word by itself: [\"./app\", \"--verbose\"])",
            "5:14: entrypoint: must have 1 to 100 items",
        ],
    );
    check(
        "command = ['a', '', \"b\\u0000\", 1]",
        &[
            "4:17: command \"\": must not be empty",
            "4:21: command \"b\\0\": must not contain a NUL character",
            "4:32: command 1: expected a string, found an integer (hint: put it in quotes)",
        ],
    );
    check(
        &format!("command = ['{}']", "x".repeat(16_385)),
        &[&format!(
            "4:12: command \"{}…\": must have at most 16384 bytes",
            "x".repeat(60)
        )],
    );
}

#[test]
fn labels_are_not_those_of_others() {
    check("[labels]\nteam = ''\n'com.example.team' = 'web'", &[]);
    let ours = "begins as the labels do by which Cutover knows its containers (hint: choose another prefix)";
    let dockers = "begins with com.docker., which Docker keeps for its own tools (hint: choose another prefix)";
    let name = "is not the name of a label: 1 to 255 characters of ASCII without spaces and =";
    check(
        "[labels]\n'cutover.app' = 'x'\n'com.docker.compose.project' = 'x'\n'a b' = 'x'\n'' = ''\nteam = 1",
        &[
            &format!("5:1: \"cutover.app\": {ours}"),
            &format!("6:1: \"com.docker.compose.project\": {dockers}"),
            &format!("7:1: \"a b\": {name}"),
            &format!("8:1: \"\": {name}"),
            "9:8: team 1: expected a string, found an integer (hint: put it in quotes)",
        ],
    );
    check(
        "[labels]\ncom.example = 'x'\nnul = \"\\u0000\"",
        &[
            "5:1: com: expected a string, found a table (hint: put a name with dots in quotes: \"com.example.team\" = \"web\")",
            "6:7: nul \"\\0\": must have at most 4096 bytes and no NUL character",
        ],
    );
    let many: String = (0..101).map(|i| format!("l{i} = ''\n")).collect();
    check(
        &format!("[labels]\n{many}"),
        &["4:1: labels: must have at most 100 keys"],
    );
}

#[test]
fn limits_of_the_kernel_are_known_by_name() {
    check(
        "[limits.ulimits]\nnofile = 65536\nmemlock = 'unlimited'\ncore = { soft = 0, hard = 'unlimited' }",
        &[],
    );
    check(
        "[limits.ulimits]\nnofiles = 1\nnproc = -1\nstack = 'much'\ncore = { soft = 2, hard = 1 }\ncpu = { soft = 1, max = 2 }\nrss = []",
        &[
            "5:1: nofiles: is not known in [limits.ulimits] (hint: did you mean nofile?)",
            "6:9: nproc -1: must be from 0 to 9223372036854775807",
            "7:9: stack \"much\": is not one of unlimited",
            "8:17: soft 2: is above hard, which it can never pass",
            "9:7: hard: is missing from [limits.ulimits.cpu] (hint: write hard = 65536)",
            "9:19: max: is not known in [limits.ulimits.cpu] (hint: known are hard, soft)",
            "10:7: rss: expected an integer, found an array",
        ],
    );
}

#[test]
fn an_app_ends_by_a_signal_that_it_can_answer() {
    check("stop_signal = 'SIGRTMIN+3'", &[]);
    let names = "SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGPWR, SIGQUIT, SIGRTMIN+3, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH";
    let bad = |text: &str, expected: &str| {
        check(
            &format!("stop_signal = '{text}'"),
            &[&format!("4:15: stop_signal {text:?}: {expected}")],
        );
    };
    bad(
        "QUIT",
        &format!("is not one of {names} (hint: write \"SIGQUIT\")"),
    );
    bad(
        "sigterm",
        &format!("is not one of {names} (hint: write \"SIGTERM\")"),
    );
    bad("SIGTREM", &format!("is not one of {names}"));
    bad("15", &format!("is not one of {names}"));
    let deaf = "is a signal that no app can answer (hint: to end it without asking, write stop_grace = \"0s\")";
    bad("SIGKILL", deaf);
    bad("kill", deaf);
}

#[test]
fn the_log_of_a_container_is_bounded() {
    check("[logging]\nmax_size = '4KiB'\nmax_files = 1", &[]);
    check(
        "[logging]\nmax_size = '10m'\nmax_files = 0",
        &[
            "5:12: max_size \"10m\": is not a number of bytes with its unit (hint: write \"512MiB\" or \"1GiB\")",
            "6:13: max_files 0: must be from 1 to 100",
        ],
    );
    check(
        "[logging]\nmax_size = '1KB'",
        &["5:12: max_size \"1KB\": must be from 4 KiB to 64 GiB"],
    );
}

#[test]
fn networks_are_ones_of_their_own() {
    check("networks = ['databases', 'a.b_c-d']", &[]);
    let own = "(hint: make one with docker network create NAME, and write NAME)";
    let bad = |text: &str, expected: &str| {
        check(
            &format!("networks = ['{text}']"),
            &[&format!("4:13: networks {text:?}: {expected}")],
        );
    };
    bad(
        "host",
        "would take the network of the host: two releases could not listen on one port (hint: reach the host with extra_hosts = [\"host:host-gateway\"])",
    );
    bad(
        "none",
        "would leave the app without a network (hint: the proxy reaches it through one: leave it out)",
    );
    bad("bridge", &format!("has no names for its containers {own}"));
    bad(
        "container:db",
        &format!("would tie the app to one container, which does not outlive a deploy {own}"),
    );
    bad("cutover", "is joined anyway (hint: leave it out)");
    for text in ["", "a b", "-a", "a/b"] {
        bad(text, &format!("is not the name of a network {own}"));
    }
    check(
        "networks = ['a', 'a']",
        &["4:18: networks \"a\": is listed twice"],
    );
}

#[test]
fn extra_hosts_lead_to_addresses() {
    check(
        "extra_hosts = ['db:10.0.0.5', 'db:fd00::5', 'db6:[::1]', 'host:host-gateway']",
        &[],
    );
    let hint = "(hint: write \"db:10.0.0.5\", or \"host:host-gateway\" for this host)";
    let bad = |text: &str, expected: &str| {
        check(
            &format!("extra_hosts = ['{text}']"),
            &[&format!("4:16: extra_hosts {text:?}: {expected} {hint}")],
        );
    };
    bad("db", "is not name:address");
    bad(":10.0.0.5", "its name is not one of a host");
    bad("a b:10.0.0.5", "its name is not one of a host");
    bad("db:", "its address is not one of IP, nor host-gateway");
    bad(
        "db:10.0.0",
        "its address is not one of IP, nor host-gateway",
    );
    bad(
        "db:db.example",
        "its address is not one of IP, nor host-gateway",
    );
    check(
        "extra_hosts = ['db:10.0.0.5', 'db:10.0.0.5']",
        &["4:31: extra_hosts \"db:10.0.0.5\": is listed twice"],
    );
}
