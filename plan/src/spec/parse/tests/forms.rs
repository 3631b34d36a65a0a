use super::check;

#[test]
fn domains_are_exact_hosts() {
    let host = |host: &str, expected: &str| {
        check(
            &format!("domains = ['{host}']"),
            &[&format!("4:12: domains {host:?}: {expected}")],
        );
    };
    check(
        "domains = ['*', 'localhost', 'a-1.example.com', '10.0.0.1', 'xn--bcher-kva.example']",
        &[],
    );
    host(
        "https://a.example.com",
        "must be a host alone (hint: leave out the scheme and the path)",
    );
    host(
        "a.example.com:80",
        "must be a host without port (hint: the proxy's ports are the agent's to set)",
    );
    host(
        "*.example.com",
        "must be an exact host (hint: list each host, or \"*\" for all that are left)",
    );
    host(
        "bücher.example",
        "must be in ASCII (hint: write it as DNS does, beginning with xn--)",
    );
    for text in ["", ".", "a.", "-a.example", "a b", "a_b", &"a".repeat(64)] {
        let shown = if text.len() > 60 {
            format!("{}…", "a".repeat(60))
        } else {
            text.to_owned()
        };
        let hint = "(hint: write it like \"shop.example.com\")";
        let expected = format!("4:12: domains {shown:?}: is not a host {hint}");
        check(&format!("domains = ['{text}']"), &[&expected]);
    }
    check("domains = []", &["4:11: domains: must have 1 to 100 items"]);
    check(
        "domains = 'a'",
        &["4:11: domains \"a\": expected an array, found a string (hint: put it in [ and ])"],
    );
    let many = |count: u32| {
        let hosts: Vec<String> = (0..count).map(|i| format!("'h{i}'")).collect();
        format!("domains = [{}]", hosts.join(","))
    };
    check(&many(100), &[]);
    check(&many(101), &["4:11: domains: must have 1 to 100 items"]);
}

#[test]
fn prefixes_end_in_a_whole_segment() {
    for text in ["/", "/shop", "/a/b", "/.well-known"] {
        check(&format!("path_prefix = '{text}'"), &[]);
    }
    let prefix = |text: &str, expected: &str| {
        let expected = format!("4:15: path_prefix {text:?}: {expected}");
        check(&format!("path_prefix = '{text}'"), &[&expected]);
    };
    prefix("", "must begin with /");
    prefix("shop", "must begin with /");
    prefix("/shop/", "must not end with / (hint: write \"/shop\")");
    prefix("/a//b", "must not contain //, /./ or /../");
    prefix("/a/../b", "must not contain //, /./ or /../");
    prefix("/a?b", "must be a path without query and escapes");
    prefix("/a%2f", "must be a path without query and escapes");
}

#[test]
fn paths_of_the_host_are_absolute_and_plain() {
    let bad = |text: &str, expected: &str| {
        check(
            &format!("env_file = '{text}'"),
            &[&format!("4:12: env_file {text:?}: {expected}")],
        );
    };
    bad("shop.env", "must be an absolute path (hint: begin with /)");
    bad(
        "~/shop.env",
        "must be an absolute path (hint: begin with /)",
    );
    bad("/etc/../shop.env", "must not contain //, /./ or /../");

    let hint = "(hint: write \"/srv/shop:/data\", \"name:/data\" or \"name:/data:ro\")";
    let bad = |text: &str, expected: &str| {
        let expected = format!("4:12: volumes {text:?}: {expected} {hint}");
        check(&format!("volumes = ['{text}']"), &[&expected]);
    };
    check(
        "volumes = ['/srv/shop/:/data/', 'cache:/cache:ro', '/run/x.sock:/x.sock']",
        &[],
    );
    bad("/data", "is not source:target or source:target:ro");
    bad("a1:/data:rw", "is not source:target or source:target:ro");
    bad(
        "./data:/data",
        "its source is neither an absolute path nor a volume's name",
    );
    bad(
        "..:/data",
        "its source is neither an absolute path nor a volume's name",
    );
    bad(
        "data/x:/data",
        "its source is neither an absolute path nor a volume's name",
    );
    bad(
        "/srv/../etc:/data",
        "its source is not a plain path: it contains //, . or ..",
    );
    bad(
        "data:data",
        "its target is not an absolute path without //, . and ..",
    );
    bad(
        "data:/a/../b",
        "its target is not an absolute path without //, . and ..",
    );
    bad("data:/", "its target would hide the whole image");
    check(
        "volumes = ['aa:/data', 'bb:/data/']",
        &["4:24: volumes \"bb:/data/\": has the same target as a volume before it"],
    );
}

#[test]
fn github_is_named_as_github_names_itself() {
    check("[github]\nrepository = 'acme_corp/shop.web'", &[]);
    let hint = "is not owner/name (hint: write it like \"acme/shop\")";
    for text in [
        "shop",
        "acme/",
        "/shop",
        "a/b/c",
        "acme/..",
        "https://github.com/acme/shop",
    ] {
        let expected = format!("5:14: repository {text:?}: {hint}");
        check(&format!("[github]\nrepository = '{text}'"), &[&expected]);
    }
    let url = |text: &str, expected: &str| {
        let lines = format!("[github]\nrepository = 'a/b'\nurl = '{text}'");
        check(&lines, &[&format!("6:7: url{expected}")]);
    };
    url(
        "ftp://u:hunter2@a",
        ": is not a web address (hint: begin with https:// or http://)",
    );
    url(
        "https://u:hunter2@a/",
        ": must not carry a user or a password",
    );
    url(
        "https:///a",
        " \"https:///a\": is not a web address (hint: write it like \"https://shop.example.com\")",
    );
    check(
        "[github]\nrepository = 'a/b'\nenvironment = ''",
        &[
            "6:15: environment \"\": must have 1 to 255 characters, none of them a control character, no space at the ends",
        ],
    );
}
