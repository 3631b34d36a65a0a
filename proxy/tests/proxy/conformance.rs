//! All that h2spec asks of a server of HTTP/2 (RFC 9113 and RFC 7541), of the real
//! process with a target behind it, over TLS and in the clear.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::certificates::pair;
use crate::common::{Backend, Proxy, ok, shop};
use cutover_wire::proxy::{KeyText, Reply, Request};

/// The cases of the pinned version, the strict ones with them. Fewer mean that some
/// were not run.
const CASES: usize = 146;

/// Cases that fail and may, each with its reason: a part of its name, and why.
struct Excused(&'static [(&'static str, &'static str)]);

/// Over TLS there is none.
const OVER_TLS: Excused = Excused(&[]);

/// On a listener where HTTP/2 is an option.
const IN_THE_CLEAR: Excused = Excused(&[(
    "Sends invalid connection preface",
    "what does not begin as HTTP/2 is read as HTTP/1.1, and gets an answer 400 in that form \
     before its connection is closed",
)]);

/// Where the suite is; builds it where it was not built before.
fn suite() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let install = root.join("tests/conformance/install");
    // The target folder of this build, wherever it is.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let made = Command::new(install)
        .env("CARGO_TARGET_DIR", target)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(made.status.success(), "h2spec could not be built");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Runs the suite, and finds what failed without an excuse.
fn check(proxy: &Proxy, options: &[&str], excused: &Excused) {
    let told = Command::new(suite())
        .args(["--strict", "--host", "127.0.0.1", "--timeout", "5"])
        .args(["--port", &proxy.address.port().to_string()])
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let summary = text.lines().rev().find(|line| line.contains(" tests, "));
    let summary = summary.unwrap_or_else(|| panic!("h2spec did not end: {text}"));
    println!("h2spec {options:?}: {summary}");
    assert!(
        summary.starts_with(&format!("{CASES} tests, ")),
        "{summary}"
    );
    assert!(summary.contains(" 0 skipped, "), "{summary}");
    // Each failure stands a second time, with what came instead, behind this line.
    let failures = text.split("Failures:").nth(1).unwrap_or_default();
    let failed: Vec<&str> = failures.lines().filter(|line| line.contains('×')).collect();
    let count = format!(" {} failed", failed.len());
    assert!(summary.ends_with(&count), "{summary}, but found {failed:?}");
    let Excused(excused) = excused;
    for case in &failed {
        let excuse = excused.iter().find(|(name, _)| case.contains(name));
        let (_, why) = excuse.unwrap_or_else(|| panic!("{summary}\n{failures}"));
        println!("excused:{}: {why}", case.trim());
    }
    assert_eq!(failed.len(), excused.len(), "an excuse that is not needed");
}

/// A target whose answers are longer than the windows that the suite plays with.
fn target() -> Backend {
    Backend::answering(|asked| match asked.line.starts_with("HEAD") {
        true => "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n".to_owned(),
        false => ok(&"x".repeat(4096)),
    })
}

#[test]
fn http2_over_tls_is_spoken_as_the_standard_says() {
    let target = target();
    let proxy = Proxy::at("https=127.0.0.1:0", &[]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    let (chain, key) = pair("localhost");
    let put = proxy.call(Request::PutCertificate {
        name: "*".to_owned(),
        chain,
        key: KeyText(key),
    });
    assert_eq!(put, Reply::CertificatePut);
    check(&proxy, &["--tls", "--insecure"], &OVER_TLS);
}

#[test]
fn http2_in_the_clear_is_spoken_as_the_standard_says() {
    let target = target();
    let proxy = Proxy::at("http+h2c=127.0.0.1:0", &[]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    check(&proxy, &[], &IN_THE_CLEAR);
}
