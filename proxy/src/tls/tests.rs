//! Real clients of rustls against the configuration that workers use.

#[path = "../../tests/proxy/given.rs"]
mod given;
mod talk;
#[path = "../../tests/proxy/trusting.rs"]
mod trusting;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_wire::table::{Certificate, Table, TableProblem};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::UnixTime;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use self::given::{Given, pem};
use self::talk::{Talk, client};
use super::certificates::{MAX_PUT, MAX_PUT_BYTES};
use super::load::Look;
use super::pair::{Doubt, Pair};
use super::*;

fn table(certificates: &[(&str, &Certificate)]) -> Table {
    let certificates = certificates.iter();
    Table {
        certificates: certificates
            .map(|&(name, paths)| (name.to_owned(), paths.clone()))
            .collect(),
        ..Table::default()
    }
}

/// The set with a table in force, and a server that follows it.
fn serve(table: &Table) -> (Arc<Certificates>, Arc<ServerConfig>) {
    let certificates = Arc::new(Certificates::default());
    let (loaded, problems) = certificates.load(table);
    assert_eq!(problems, []);
    certificates.put_in_force(loaded);
    let server = server(&certificates, TicketKeys::new().unwrap());
    (certificates, server)
}

fn server(certificates: &Arc<Certificates>, tickets: TicketKeys) -> Arc<ServerConfig> {
    server_config(Arc::clone(certificates), Arc::new(tickets)).unwrap()
}

/// What a new client is shown for a name.
fn shown(server: &Arc<ServerConfig>, name: &str) -> Option<Vec<u8>> {
    let talk = Talk::begin(&client(&TLS13, &[b"h2"]), server, name);
    talk.ok().map(|talk| talk.shown().to_vec())
}

#[test]
fn a_name_gets_the_exact_certificate_then_the_wildcard_then_the_one_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let (one, many, any) = (
        Given::of(&["a.example"]),
        Given::of(&["*.example"]),
        Given::of(&["z.example"]),
    );
    let exact = one.write(directory.path());
    let wildcard = many.write(directory.path());
    let all = any.write(directory.path());
    let whole = table(&[("a.example", &exact), ("*.example", &wildcard), ("*", &all)]);
    let (certificates, server) = serve(&whole);
    let check = |name: &str, expected: Option<&Given>| {
        let expected = expected.map(|given| given.der.clone());
        assert_eq!(shown(&server, name), expected, "{name}");
    };
    check("a.example", Some(&one));
    check("A.Example", Some(&one));
    check("b.example", Some(&many));
    check("c.b.example", Some(&any));
    check("example", Some(&any));
    check("127.0.0.1", Some(&any));
    let (loaded, _) = certificates.load(&table(&[("*.example", &wildcard)]));
    certificates.put_in_force(loaded);
    check("a.example", Some(&many));
    check("c.b.example", None);
    check("127.0.0.1", None);
}

#[test]
fn both_versions_of_tls_are_spoken_and_the_protocol_is_ours_to_choose() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example"]).write(directory.path());
    let (_, server) = serve(&table(&[("a.example", &given)]));
    let check = |offered: &[&[u8]], expected: Option<&[u8]>| {
        for version in [&TLS12, &TLS13] {
            let talk = Talk::begin(&client(version, offered), &server, "a.example").unwrap();
            assert_eq!(talk.server.alpn_protocol(), expected);
            assert_eq!(talk.server.protocol_version(), Some(version.version));
        }
    };
    check(&[b"http/1.1", b"h2"], Some(b"h2"));
    check(&[b"http/1.1"], Some(b"http/1.1"));
    check(&[], None);
    let strange = Talk::begin(&client(&TLS13, &[b"spdy/1"]), &server, "a.example");
    assert!(strange.is_err());
    assert_eq!(server.max_early_data_size, 0);
}

#[test]
fn an_open_connection_goes_on_when_its_certificate_is_exchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let paths = old.write(directory.path());
    let whole = table(&[("a.example", &paths)]);
    let (certificates, server) = serve(&whole);
    let mut open = [&TLS12, &TLS13]
        .map(|version| Talk::begin(&client(version, &[]), &server, "a.example").unwrap());
    new.write(directory.path());
    assert_eq!(shown(&server, "a.example"), Some(old.der.clone()));
    certificates.renew(Look::Changed);
    assert_eq!(shown(&server, "a.example"), Some(new.der));
    for talk in &mut open {
        talk.exchange();
        assert_eq!(talk.shown(), old.der);
    }
}

#[test]
fn a_file_that_lay_still_is_known_by_its_stamp_until_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let paths = old.write(directory.path());
    let (certificates, server) = serve(&table(&[("a.example", &paths)]));
    let known = || certificates.kept().files["a.example"].stamps.is_some();
    assert!(!known(), "what was just written is read once more");
    let end = Instant::now() + Duration::from_secs(20);
    while !known() {
        assert!(Instant::now() < end, "never known");
        std::thread::sleep(Duration::from_millis(50));
        certificates.renew(Look::Changed);
    }
    new.write(directory.path());
    certificates.renew(Look::Changed);
    assert_eq!(shown(&server, "a.example"), Some(new.der));
}

#[test]
fn what_did_not_change_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example", "b.example"]);
    let paths = given.write(directory.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = given.write(elsewhere.path());
    let whole = table(&[("a.example", &paths), ("b.example", &paths), ("*", &copy)]);
    let (certificates, _) = serve(&whole);
    let served = |name: &str| {
        let kept = certificates.kept();
        let pair = kept.files[name].pair.clone();
        Arc::clone(pair.unwrap().certified())
    };
    let first = served("a.example");
    assert!(Arc::ptr_eq(&first, &served("b.example")));
    assert!(Arc::ptr_eq(&first, &served("*")));
    given.write(directory.path());
    let (loaded, problems) = certificates.load(&whole);
    assert_eq!(problems, []);
    certificates.put_in_force(loaded);
    certificates.renew(Look::Everything);
    assert!(Arc::ptr_eq(&first, &served("a.example")));
}

/// What a table with these two files is told, as place and fault.
fn check_fault(chain: Option<&str>, key: Option<&str>, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let at = |end: &str| {
        let path = directory.path().join(end);
        path.to_str().unwrap().to_owned()
    };
    for (end, text) in [("crt", chain), ("key", key)] {
        if let Some(text) = text {
            fs::write(at(end), text).unwrap();
        }
    }
    let (chain, key) = (at("crt"), at("key"));
    let paths = Certificate { chain, key };
    let (loaded, problems) = Certificates::default().load(&table(&[("a.example", &paths)]));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let told = told.join("\n").replace(&at(""), "/");
    assert_eq!(told, format!("certificates.a.example.{expected}"));
    assert!(loaded.files["a.example"].pair.is_none());
}

#[test]
fn a_bad_file_is_told_with_its_place_and_its_cure_and_nothing_of_it() {
    let (one, other) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let (chain, key) = (Some(one.chain.as_str()), Some(one.key.as_str()));
    let put = "put the file there and let the user of the proxy read it";
    let gone = "No such file or directory (os error 2)";
    check_fault(
        None,
        key,
        &format!("chain: could not read /crt: {gone}; {put}"),
    );
    check_fault(
        chain,
        None,
        &format!("key: could not read /key: {gone}; {put}"),
    );
    let full = "there is no certificate in it; name the full chain as PEM";
    check_fault(Some(""), key, &format!("chain: {full}"));
    check_fault(key, key, &format!("chain: {full}"));
    let secret =
        "there is no unencrypted private key in it; name the key as PEM, without a passphrase";
    check_fault(chain, chain, &format!("key: {secret}"));
    let sealed = one.key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    check_fault(chain, Some(&sealed), &format!("key: {secret}"));
    let mismatch = "it does not fit the first certificate of the chain; name the key that the certificate was ordered with";
    check_fault(chain, Some(&other.key), &format!("key: {mismatch}"));
    let damaged = "it is damaged PEM; copy the whole text, from BEGIN to END";
    check_fault(chain, Some(&one.key[..60]), &format!("key: {damaged}"));
    check_fault(Some(&one.chain[..60]), key, &format!("chain: {damaged}"));
    let odd = one.key.replace("MIG", "M?G");
    check_fault(chain, Some(&odd), &format!("key: {damaged}"));
    let kinds = "it is not understood: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA; \
                 use an RSA key of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519";
    check_fault(
        chain,
        Some(&pem("PRIVATE KEY", b"hush")),
        &format!("key: {kinds}"),
    );
    let foreign = "its first certificate is not understood: invalid peer certificate: BadEncoding; \
                   put the certificate of the host first, then its issuers";
    check_fault(
        Some(&pem("CERTIFICATE", b"?")),
        key,
        &format!("chain: {foreign}"),
    );
    let long = "x".repeat(super::pair::MAX_TEXT + 1);
    let short = "it is longer than 131072 bytes; leave out what is not of this certificate";
    check_fault(chain, Some(&long), &format!("key: {short}"));
}

#[test]
fn at_the_start_a_bad_certificate_leaves_the_others_in_service_and_comes_in_when_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (good, late) = (Given::of(&["a.example"]), Given::of(&["b.example"]));
    let (paths, missing) = (
        good.write(directory.path()),
        Certificate {
            chain: directory
                .path()
                .join("b.example.crt")
                .to_str()
                .unwrap()
                .to_owned(),
            key: directory
                .path()
                .join("b.example.key")
                .to_str()
                .unwrap()
                .to_owned(),
        },
    );
    let whole = table(&[("a.example", &paths), ("b.example", &missing)]);
    let certificates = Arc::new(Certificates::default());
    let (loaded, problems) = certificates.load(&whole);
    let places: Vec<&str> = problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(places, ["certificates.b.example.chain"]);
    certificates.put_in_force(loaded);
    let server = server(&certificates, TicketKeys::new().unwrap());
    assert_eq!(shown(&server, "a.example"), Some(good.der));
    assert_eq!(shown(&server, "b.example"), None);
    // It is known already, so it keeps no other table out.
    let (loaded, problems) = certificates.load(&whole);
    assert_eq!(problems, []);
    certificates.put_in_force(loaded);
    late.write(directory.path());
    certificates.renew(Look::Changed);
    assert_eq!(shown(&server, "b.example"), Some(late.der));
}

#[test]
fn a_renewal_that_is_bad_keeps_the_old_certificate_and_stops_no_table() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let paths = old.write(directory.path());
    let whole = table(&[("a.example", &paths)]);
    let (certificates, server) = serve(&whole);
    // Half of a renewal: the chain is new, the key is not.
    fs::write(&paths.chain, &new.chain).unwrap();
    certificates.renew(Look::Changed);
    assert_eq!(shown(&server, "a.example"), Some(old.der.clone()));
    fs::remove_file(&paths.key).unwrap();
    certificates.renew(Look::Everything);
    let (loaded, problems) = certificates.load(&whole);
    assert_eq!(problems, []);
    certificates.put_in_force(loaded);
    assert_eq!(shown(&server, "a.example"), Some(old.der));
    fs::write(&paths.key, &new.key).unwrap();
    certificates.renew(Look::Changed);
    assert_eq!(shown(&server, "a.example"), Some(new.der));
    // Named anew, the same files are as good as others.
    let bad = Certificate {
        key: paths.chain.clone(),
        ..paths
    };
    let (_, problems) = certificates.load(&table(&[("a.example", &bad)]));
    assert_eq!(problems[0].place, "certificates.a.example.key");
}

#[test]
fn a_doubtful_certificate_is_served_and_told() {
    let now = UnixTime::now().as_secs() as i64;
    let check = |given: &Given, name: &str, expected: &[Doubt]| {
        let pair = Pair::parse(given.chain.as_bytes(), given.key.as_bytes()).unwrap();
        assert_eq!(pair.doubts(name, now), expected, "{name}");
    };
    let both = Given::of(&["a.example", "*.b.example"]);
    check(&both, "a.example", &[]);
    check(&both, "*.b.example", &[]);
    check(&both, "x.b.example", &[]);
    check(&both, "*", &[]);
    check(&both, "b.example", &[Doubt::Foreign]);
    check(&both, "*.example", &[Doubt::Foreign]);
    let past = rcgen::date_time_ymd(2001, 1, 1);
    let old = Given::with(&["a.example"], |wanted| wanted.not_after = past);
    check(&old, "a.example", &[Doubt::Expired]);
    let ahead = rcgen::date_time_ymd(2999, 1, 1);
    let early = Given::with(&["a.example"], |wanted| wanted.not_before = ahead);
    check(&early, "b.example", &[Doubt::Early, Doubt::Foreign]);
    let mut mixed = Given::of(&["a.example"]);
    mixed.chain += &both.chain;
    // Both issued themselves, under the same name of rcgen's.
    check(&mixed, "a.example", &[]);
    let owner = |wanted: &mut CertificateParams| {
        let kind = rcgen::DnType::CommonName;
        wanted.distinguished_name.push(kind, "another");
    };
    mixed.chain += &Given::with(&["c.example"], owner).chain;
    check(&mixed, "a.example", &[Doubt::Disordered]);
}

#[test]
fn a_chain_is_sent_whole_and_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let authority = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.distinguished_name
        .push(rcgen::DnType::CommonName, "root");
    let above = root.self_signed(&authority).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let own = own
        .signed_by(&key, &Issuer::from_params(&root, &authority))
        .unwrap();
    let given = Given {
        name: "a.example".to_owned(),
        chain: [
            "note\n",
            &pem("CERTIFICATE", own.der()),
            "\n",
            &pem("CERTIFICATE", above.der()),
        ]
        .concat(),
        key: pem("PRIVATE KEY", &key.serialize_der()),
        der: own.der().to_vec(),
    };
    let paths = given.write(directory.path());
    let (_, server) = serve(&table(&[("a.example", &paths)]));
    let talk = Talk::begin(&client(&TLS13, &[]), &server, "a.example").unwrap();
    let chain = talk.client.peer_certificates().unwrap();
    assert_eq!(chain, [own.der().clone(), above.der().clone()]);
}

#[test]
fn what_was_put_is_served_in_place_of_the_table_until_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let (of_table, put) = (Given::of(&["a.example"]), Given::of(&["*.example"]));
    let paths = of_table.write(directory.path());
    let whole = table(&[("a.example", &paths)]);
    let (certificates, server) = serve(&whole);
    certificates.put("a.example", &put.chain, &put.key).unwrap();
    certificates.put("*.example", &put.chain, &put.key).unwrap();
    assert_eq!(shown(&server, "a.example"), Some(put.der.clone()));
    assert_eq!(shown(&server, "b.example"), Some(put.der.clone()));
    assert_eq!(certificates.expiries().len(), 2);
    // Neither a table nor a look at the files takes it away.
    let (loaded, _) = certificates.load(&whole);
    certificates.put_in_force(loaded);
    certificates.renew(Look::Everything);
    assert_eq!(shown(&server, "a.example"), Some(put.der.clone()));
    certificates.drop_put("a.example");
    certificates.drop_put("a.example");
    assert_eq!(shown(&server, "a.example"), Some(of_table.der));
    assert_eq!(shown(&server, "b.example"), Some(put.der));
}

#[test]
fn what_is_put_is_checked_and_bounded() {
    let certificates = Certificates::default();
    let given = Given::of(&["a.example"]);
    let put = |name: &str, key: &str| certificates.put(name, &given.chain, key);
    let places = |refused: Result<(), Vec<TableProblem>>| refused.unwrap_err()[0].place.clone();
    assert_eq!(
        places(put("a.example", "hush")),
        "certificates.a.example.key"
    );
    assert_eq!(places(put("A:443", &given.key)), "certificates.A:443");
    for number in 0..MAX_PUT {
        put(&format!("{number}.example"), &given.key).unwrap();
    }
    assert_eq!(
        places(put("a.example", &given.key)),
        "certificates.a.example"
    );
    put("0.example", &given.key).unwrap();
    assert_eq!(certificates.expiries().len(), MAX_PUT);
    for number in 0..MAX_PUT {
        certificates.drop_put(&format!("{number}.example"));
    }
    let long = given.key.clone() + &"\n".repeat(super::pair::MAX_TEXT - given.key.len());
    let taken = (0..MAX_PUT).take_while(|number| put(&format!("{number}.x"), &long).is_ok());
    assert_eq!(
        taken.count(),
        MAX_PUT_BYTES / (long.len() + given.chain.len())
    );
}

#[test]
fn the_next_process_serves_what_no_file_has() {
    let directory = tempfile::tempdir().unwrap();
    let (put, bad, good) = (
        Given::of(&["a.example"]),
        Given::of(&["c.example"]),
        Given::of(&["b.example"]),
    );
    let spoilt = bad.write(directory.path());
    let sound = good.write(directory.path());
    let whole = table(&[("c.example", &spoilt), ("b.example", &sound)]);
    let (old, _) = serve(&whole);
    old.put("a.example", &put.chain, &put.key).unwrap();
    fs::write(&spoilt.key, "half a").unwrap();
    old.renew(Look::Changed);
    let secret = old.export();
    let new = Arc::new(Certificates::default());
    new.import(&secret).unwrap();
    let (loaded, problems) = new.load(&whole);
    assert_eq!(problems, []);
    new.put_in_force(loaded);
    let server = server(&new, TicketKeys::new().unwrap());
    assert_eq!(shown(&server, "a.example"), Some(put.der));
    assert_eq!(shown(&server, "c.example"), Some(bad.der));
    assert_eq!(shown(&server, "b.example"), Some(good.der));
    assert_eq!(new.export(), secret);
    for length in 0..secret.len() {
        // What is cut between two certificates is shorter, not wrong.
        let _ = Certificates::default().import(&secret[..length]);
    }
    assert!(
        Certificates::default()
            .import(&secret[..secret.len() - 1])
            .is_err()
    );
    assert!(Certificates::default().import(b"").is_err());
}

#[test]
fn nothing_that_holds_a_key_prints_it() {
    let certificates = Certificates::default();
    let given = Given::of(&["a.example"]);
    certificates
        .put("a.example", &given.chain, &given.key)
        .unwrap();
    assert_eq!(format!("{certificates:?}"), "Certificates(…)");
}

/// Whether a session that began at one server is resumed at another.
fn check_resumption(import: bool, expected: HandshakeKind) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Given::of(&["a.example"]).write(directory.path());
    let (certificates, _) = serve(&table(&[("a.example", &paths)]));
    for version in [&TLS12, &TLS13] {
        let keys = TicketKeys::new().unwrap();
        let next = match import {
            true => TicketKeys::import(&keys.export()).unwrap(),
            false => TicketKeys::new().unwrap(),
        };
        let (old, new) = (server(&certificates, keys), server(&certificates, next));
        let client = client(version, &[b"h2"]);
        let first = Talk::begin(&client, &old, "a.example").unwrap();
        assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
        let again = Talk::begin(&client, &new, "a.example").unwrap();
        assert_eq!(again.client.handshake_kind(), Some(expected), "{version:?}");
        assert_eq!(again.server.handshake_kind(), Some(expected), "{version:?}");
    }
}

#[test]
fn a_session_is_resumed_at_the_process_that_has_the_keys_and_at_no_other() {
    check_resumption(true, HandshakeKind::Resumed);
    check_resumption(false, HandshakeKind::Full);
}

#[test]
fn an_authority_gets_the_answer_and_nobody_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example"]);
    let paths = given.write(directory.path());
    let mut whole = table(&[("a.example", &paths)]);
    let digest = "5a".repeat(32);
    whole
        .acme
        .tls_alpn
        .insert("a.example".to_owned(), digest.clone());
    let (certificates, server) = serve(&whole);
    let ask = |name: &str, offered: &[&[u8]]| {
        let talk = Talk::begin(&client(&TLS13, offered), &server, name).ok()?;
        Some((
            talk.shown().to_vec(),
            talk.server.alpn_protocol().map(<[u8]>::to_vec),
        ))
    };
    let (answer, protocol) = ask("a.example", &[ACME_PROTOCOL]).unwrap();
    assert_eq!(protocol.as_deref(), Some(ACME_PROTOCOL));
    assert!(answer.windows(32).any(|part| part == [0x5A; 32]));
    let ordinary = Some((given.der.clone(), Some(b"h2".to_vec())));
    assert_eq!(ask("a.example", &[b"h2"]), ordinary);
    assert_eq!(ask("a.example", &[ACME_PROTOCOL, b"h2"]), ordinary);
    assert_eq!(ask("b.example", &[ACME_PROTOCOL]), None);
    assert_eq!(ask("127.0.0.1", &[ACME_PROTOCOL]), None);
    // Another generation keeps the answer, and one without it takes it away.
    let (loaded, _) = certificates.load(&whole);
    certificates.put_in_force(loaded);
    assert_eq!(ask("a.example", &[ACME_PROTOCOL]).unwrap().0, answer);
    let (loaded, _) = certificates.load(&table(&[("a.example", &paths)]));
    certificates.put_in_force(loaded);
    assert_eq!(ask("a.example", &[ACME_PROTOCOL]), None);
}

#[tokio::test]
async fn a_hang_up_reads_the_files_again() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let paths = old.write(directory.path());
    let (certificates, server) = serve(&table(&[("a.example", &paths)]));
    let hang_up = signal(SignalKind::hangup()).unwrap();
    let fresh = tokio::spawn(keep_fresh(Arc::clone(&certificates), hang_up));
    new.write(directory.path());
    let end = Instant::now() + Duration::from_secs(20);
    while shown(&server, "a.example").as_deref() != Some(&new.der) {
        assert!(Instant::now() < end, "never read again");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
            .unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fresh.abort();
}
