//! Certificates of the table and of the socket, as the process takes and keeps them.

use std::fs;
use std::path::Path;

use crate::common::{Backend, Proxy, shop, until};
use crate::given::Given;
use cutover_wire::proxy::{KeyText, Refusal, Reply, Request};
use cutover_wire::table::{Certificate, Table};

/// A chain and its key as PEM.
pub(crate) fn pair(name: &str) -> (String, String) {
    let given = Given::of(&[name]);
    (given.chain, given.key)
}

fn write(directory: &Path, name: &str) -> Certificate {
    Given::of(&[name]).write(directory)
}

/// Puts the next table, with these certificates and one backend.
fn apply(proxy: &Proxy, backend: &Backend, certificates: &[(&str, &Certificate)]) -> Reply {
    let Reply::Table(current) = proxy.call(Request::Table) else {
        panic!("no table");
    };
    let certificates = certificates.iter();
    let table = Table {
        generation: current.generation + 1,
        apps: shop("v1", &[("v1", &[backend.address])]),
        certificates: certificates
            .map(|&(name, paths)| (name.to_owned(), paths.clone()))
            .collect(),
        ..Table::default()
    };
    let expected = current.generation;
    proxy.call(Request::Apply { expected, table })
}

fn put(proxy: &Proxy, name: &str, chain: &str, key: &str) -> Reply {
    proxy.call(Request::PutCertificate {
        name: name.to_owned(),
        chain: chain.to_owned(),
        key: KeyText(key.to_owned()),
    })
}

fn served(proxy: &Proxy) -> u16 {
    proxy.client().get("/").unwrap().status()
}

#[test]
fn a_table_whose_certificate_is_bad_is_refused_and_the_one_in_force_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    let good = write(directory.path(), "a.example");
    let reply = apply(&proxy, &backend, &[("a.example", &good)]);
    assert_eq!(reply, Reply::Applied { generation: 1 });
    let bad = Certificate {
        key: "/nowhere/b.key".to_owned(),
        ..write(directory.path(), "b.example")
    };
    let reply = apply(
        &proxy,
        &backend,
        &[("a.example", &good), ("b.example", &bad)],
    );
    let Reply::Refused(Refusal::Invalid(problems)) = reply else {
        panic!("{reply:?}");
    };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "certificates.b.example.key: could not read /nowhere/b.key: No such file or directory \
             (os error 2); put the file there and let the user of the proxy read it"
        ]
    );
    // Nothing of it was kept, and a file that goes bad later stops no table.
    assert!(matches!(proxy.call(Request::Table), Reply::Table(table) if table.generation == 1));
    fs::write(&good.key, "half a").unwrap();
    let reply = apply(&proxy, &backend, &[("a.example", &good)]);
    assert_eq!(reply, Reply::Applied { generation: 2 });
    let told = "certificates.a.example.key";
    until("the bad file is told", || proxy.log().contains(told));
    assert_eq!(served(&proxy), 200);
}

#[test]
fn a_certificate_that_is_gone_at_the_start_keeps_nothing_else_from_being_served() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let backend = Backend::named("served");
    let paths = write(files.path(), "a.example");
    let proxy = Proxy::start_in(directory.path(), &[]);
    let reply = apply(&proxy, &backend, &[("a.example", &paths)]);
    assert_eq!(reply, Reply::Applied { generation: 1 });
    drop(proxy);
    fs::remove_file(&paths.chain).unwrap();
    let proxy = Proxy::start_in(directory.path(), &[]);
    assert_eq!(served(&proxy), 200);
    let log = proxy.log();
    assert!(log.contains("certificates.a.example.chain"));
    assert!(log.contains("the name is not served over TLS"));
    // The stored table is whole, and the next one is taken all the same.
    let reply = apply(&proxy, &backend, &[("a.example", &paths)]);
    assert_eq!(reply, Reply::Applied { generation: 2 });
}

#[test]
fn a_key_that_was_put_is_in_no_file_no_answer_and_no_log() {
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    let (chain, key) = pair("a.example");
    let line = key.lines().nth(1).unwrap();
    assert_eq!(
        put(&proxy, "a.example", &chain, &key),
        Reply::CertificatePut
    );
    let reply = apply(&proxy, &backend, &[]);
    assert_eq!(reply, Reply::Applied { generation: 1 });
    let Reply::Table(table) = proxy.call(Request::Table) else {
        panic!("no table");
    };
    assert!(table.certificates.is_empty());
    // A key in the place of the chain, and a wrong one, are not repeated either.
    for (chain, key) in [
        (&key, &key),
        (&chain, &chain),
        (&chain, &key.replacen('M', "?", 1)),
    ] {
        let reply = put(&proxy, "a.example", chain, key);
        assert!(
            matches!(reply, Reply::Refused(Refusal::Certificate(_))),
            "{reply:?}"
        );
        assert!(!format!("{reply:?}").contains(&line[10..30]));
    }
    assert!(!proxy.log().contains(&line[10..30]));
    for file in fs::read_dir(proxy.directory.join("state")).unwrap() {
        let text = fs::read(file.unwrap().path()).unwrap();
        assert!(
            !text
                .windows(20)
                .any(|part| part == &line.as_bytes()[10..30])
        );
    }
    let dropped = || {
        proxy.call(Request::DropCertificate {
            name: "a.example".to_owned(),
        })
    };
    assert_eq!(dropped(), Reply::CertificateDropped);
    assert_eq!(dropped(), Reply::CertificateDropped);
}

#[test]
fn a_hang_up_ends_nothing() {
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    apply(&proxy, &backend, &[]);
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().status(), 200);
    proxy.signal("HUP");
    until("it was heard", || proxy.log().contains("read the files"));
    assert_eq!(client.get("/").unwrap().status(), 200);
}
