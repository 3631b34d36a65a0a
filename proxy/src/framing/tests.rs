use proptest::prelude::*;

use super::*;

/// What a scanner tells when it was fed these pieces.
fn told(pieces: &[&[u8]]) -> (Option<(Fault, u64)>, bool, bool) {
    let mut scanner = Scanner::new();
    pieces.iter().for_each(|piece| scanner.feed(piece));
    (scanner.fault, scanner.in_head(), scanner.in_body())
}

/// Feeds whole, byte by byte, and cut in two at each place: all must agree.
fn check_bytes(bytes: &[u8], fault: Option<(Fault, u64)>, in_head: bool, in_body: bool) {
    let text = String::from_utf8_lossy(bytes);
    let expected = (fault, in_head, in_body);
    assert_eq!(told(&[bytes]), expected, "{text:?}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(told(&single), expected, "{text:?} byte by byte");
    for cut in 0..bytes.len() {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(told(&[left, right]), expected, "{text:?} cut at {cut}");
    }
}

fn check(text: &str, fault: Option<Fault>, in_head: bool, in_body: bool) {
    let fault = fault.map(|fault| (fault, 0));
    check_bytes(text.as_bytes(), fault, in_head, in_body);
}

/// A fault of the head of the first request.
fn refused(text: &str, fault: Fault) {
    check(text, Some(fault), true, false);
}

fn field_refused(field: &str, fault: Fault) {
    refused(
        &format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"),
        fault,
    );
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A fault of the body of the first request.
fn body_refused(body: &str, fault: Fault) {
    check(&format!("{CHUNKED}{body}"), Some(fault), false, true);
}

#[test]
fn sound_requests_have_no_fault() {
    let ended = |text: &str| check(text, None, false, false);
    ended("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    ended("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    ended("GET / HTTP/1.0\r\n\r\n");
    ended("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n");
    ended("M-SEARCH http://a/?b=\"c\" HTTP/1.1\r\nHost: a\r\nA:\t b \r\n_:\u{e9}\r\n\r\n");
    ended("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 3\t \r\n\r\na\nb");
    ended("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\n");
    ended("POST / HTTP/1.1\r\ntransfer-encoding:CHUNKED\r\nhost:a\r\n\r\n0\r\n\r\n");
    ended(&format!("{CHUNKED}3;x=\"y\"\r\na\nb\r\n0\r\n\r\n"));
    ended(&format!(
        "{CHUNKED}A\r\n0123456789\r\n0000000000000000\r\nT: x\r\n\r\n"
    ));
    check("GET / HTTP/1.1\r\nHo", None, true, false);
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\n";
    check(body, None, false, true);
    check(&format!("{body}cdGET"), None, true, false);
    check(&format!("{CHUNKED}3\r\na\n"), None, false, true);
    check(&format!("{CHUNKED}0\r\n\r\nGET"), None, true, false);
    check(
        &format!("{CHUNKED}ffffffffffffffff\r\na\n"),
        None,
        false,
        true,
    );
}

#[test]
fn each_fault_of_a_request_line_is_named() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.0 ",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / HTTP/01.1",
        "GET / HTTP/1.10",
        "GET / HTTP/1.1x",
        "GET /",
        "GET",
        "GET HTTP/1.1",
        "/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "\u{e9} / HTTP/1.1",
    ] {
        let mut scanner = Scanner::new();
        scanner.feed(format!("{line}\r\n").as_bytes());
        let fault = scanner.fault();
        let named = matches!(fault, Some(Fault::RequestLine | Fault::Target));
        assert!(named, "{line:?}: {fault:?}");
    }
    refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refused("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refused("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refused("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refused("GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareLineFeed);
    refused(
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Fault::EmptyLines,
    );
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareLineFeed);
}

#[test]
fn each_fault_of_a_field_is_named() {
    field_refused("A: b\nC: d", Fault::BareLineFeed);
    field_refused("A: b\rC: d", Fault::Control);
    field_refused("A: b\0", Fault::Control);
    field_refused("A: b\r", Fault::Control);
    field_refused("A: b\r\n c", Fault::Folded);
    field_refused("A: b\r\n\t", Fault::Folded);
    field_refused("A : b", Fault::SpaceBeforeColon);
    field_refused("A\t: b", Fault::SpaceBeforeColon);
    field_refused("A b", Fault::SpaceBeforeColon);
    field_refused(": b", Fault::FieldName);
    field_refused("A", Fault::FieldName);
    field_refused("A\u{b}: b", Fault::FieldName);
    field_refused("A\u{85}: b", Fault::FieldName);
    field_refused("\rA: b", Fault::FieldName);
    field_refused("host: a", Fault::RepeatedHost);
    refused("GET / HTTP/1.1\r\nA: b\r\n\r\n", Fault::NoHost);
    field_refused("Content_Length: 3", Fault::LookalikeName);
    field_refused("TRANSFER_encoding: chunked", Fault::LookalikeName);
    field_refused("x_forwarded-FOR: 1", Fault::LookalikeName);
}

#[test]
fn each_fault_of_lengths_and_encodings_is_named() {
    for value in [
        "", " ", "+1", "-1", "1, 1", "1 1", "0x1", "1_0", "1;", "\u{b2}",
    ] {
        field_refused(&format!("Content-Length: {value}"), Fault::BadLength);
    }
    field_refused("Content-Length: 18446744073709551616", Fault::BadLength);
    let length = "Content-Length: 1";
    let encoding = "Transfer-Encoding: chunked";
    let both = |one: &str, two: &str, fault| field_refused(&format!("{one}\r\n{two}"), fault);
    both(length, length, Fault::RepeatedLength);
    both(length, encoding, Fault::LengthAndEncoding);
    both(encoding, length, Fault::LengthAndEncoding);
    both(encoding, encoding, Fault::Encoding);
    for value in [
        "",
        "chunked ",
        "chunked\t",
        " chunked",
        "\tchunked",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "gzip, chunked",
        "identity",
        "xchunked",
        "\"chunked\"",
        "chunked;q=1",
        "\u{a0}chunked",
    ] {
        field_refused(&format!("Transfer-Encoding: {value}"), Fault::Encoding);
    }
    let old = format!("POST / HTTP/1.0\r\nHost: a\r\n{encoding}\r\n\r\n0\r\n\r\n");
    refused(&old, Fault::OldEncoding);
}

#[test]
fn each_fault_of_a_chunked_body_is_named() {
    for size in [
        "",
        " 1",
        "1 ",
        "1 ;a",
        "0x1",
        "+1",
        "-1",
        "1_0",
        "g",
        "1\r",
        "00000000000000001",
        "1\t",
    ] {
        body_refused(&format!("{size}\r\nx\r\n0\r\n\r\n"), Fault::ChunkSize);
    }
    body_refused("1\nx\r\n0\r\n\r\n", Fault::BareLineFeed);
    body_refused("1;a\nx\r\n0\r\n\r\n", Fault::BareLineFeed);
    body_refused("1;a\rb\r\nx\r\n0\r\n\r\n", Fault::Control);
    body_refused("1\r\nx\n0\r\n\r\n", Fault::ChunkEnd);
    body_refused("1\r\nxy\r\n0\r\n\r\n", Fault::ChunkEnd);
    body_refused("1\r\nx\rA0\r\n\r\n", Fault::ChunkEnd);
    body_refused("1\r\nx0\r\n\r\n", Fault::ChunkEnd);
    body_refused("0\r\nA: b\n\r\n", Fault::BareLineFeed);
    body_refused("0\r\nA : b\r\n\r\n", Fault::SpaceBeforeColon);
    body_refused("0\r\n b\r\n\r\n", Fault::Folded);
    body_refused("0\r\nA: b\0\r\n\r\n", Fault::Control);
    for name in [
        "Content-Length",
        "HOST",
        "authorization",
        "X-Forwarded-Anything",
    ] {
        body_refused(&format!("0\r\n{name}: b\r\n\r\n"), Fault::Trailer);
    }
}

#[test]
fn what_surrounds_chunks_is_bounded() {
    let long = "x".repeat(MAX_CHUNK_LINE);
    let told = |body: &str| {
        let mut scanner = Scanner::new();
        scanner.feed(format!("{CHUNKED}{body}").as_bytes());
        scanner.fault()
    };
    let too_long = Some(Fault::TooLong);
    assert_eq!(told(&format!("1;{long}")), too_long, "a line");
    assert_eq!(told(&format!("1;{}\r\nx\r\n", &long[10..])), None);
    let chunk = format!("1;{}\r\nx\r\n", &long[10..]);
    assert_eq!(told(&chunk.repeat(100)), too_long, "all extensions");
    assert_eq!(told(&format!("0\r\n{}", "a: b\r\n".repeat(33))), too_long);
    let trailer = format!("a: {}\r\n", "x".repeat(2000));
    assert_eq!(told(&format!("0\r\n{}", trailer.repeat(3))), None);
    assert_eq!(told(&format!("0\r\n{}", trailer.repeat(6))), too_long);
    let mut scanner = Scanner::new();
    scanner.feed("GET /".repeat(MAX_LINE / 5 + 1).as_bytes());
    assert_eq!(scanner.fault(), too_long, "a line of a head");
}

#[test]
fn a_fault_belongs_to_its_request_and_to_all_after_it() {
    let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let second = "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let bytes = format!("{first}{second}");
    check_bytes(
        bytes.as_bytes(),
        Some((Fault::RepeatedHost, 1)),
        true,
        false,
    );
    let bytes = format!("{first}{CHUNKED}x\r\n");
    check_bytes(bytes.as_bytes(), Some((Fault::ChunkSize, 1)), false, true);
    let mut scanner = Scanner::new();
    scanner.feed(bytes.as_bytes());
    let each: Vec<bool> = (0..4).map(|n| scanner.fault_of(n).is_some()).collect();
    assert_eq!(each, [false, true, true, true]);
}

#[test]
fn between_requests_no_memory_is_held_and_after_a_stop_nothing_is_read() {
    let mut scanner = Scanner::new();
    for byte in format!("{CHUNKED}1\r\nx\r\n0\r\nA: b\r\n\r\n").as_bytes() {
        scanner.feed(&[*byte]);
    }
    assert_eq!(scanner.kept.capacity(), 0);
    scanner.feed(b"\0\n");
    assert!(scanner.fault().is_some());
    scanner.stop();
    scanner.feed(b"\0\n");
    assert_eq!(
        (scanner.fault(), scanner.in_head(), scanner.in_body()),
        (None, false, false)
    );
}

#[test]
fn a_long_line_in_pieces_is_read_to_its_end() {
    let long = "x".repeat(1000);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}");
    let cut = head.len() - 500;
    let told = |end: &str| {
        told(&[
            &head.as_bytes()[..cut],
            &head.as_bytes()[cut..],
            end.as_bytes(),
        ])
    };
    assert_eq!(told("\r\n\r\n"), (None, false, false));
    assert_eq!(
        told("\n\r\n"),
        (Some((Fault::BareLineFeed, 0)), true, false)
    );
    assert_eq!(told("\0\r\n\r\n"), (Some((Fault::Control, 0)), true, false));
}

proptest! {
    #[test]
    fn however_bytes_are_cut_they_are_read_the_same(
        words in proptest::collection::vec(
            prop_oneof![
                Just("GET / HTTP/1.1\r\n"), Just("POST / HTTP/1.0\r\n"), Just("Host: a\r\n"), Just("\r\n"),
                Just("Content-Length: 3\r\n"), Just("Transfer-Encoding: chunked\r\n"), Just("abc"),
                Just("3\r\nabc\r\n"), Just("0\r\n"), Just("\r"), Just("\n"), Just(" "), Just("\0"), Just(";x"),
            ],
            0..20,
        ),
        cuts in proptest::collection::vec(1_usize..20, 1..40),
    ) {
        let bytes = words.concat().into_bytes();
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), bytes.as_slice(), cuts.iter().cycle());
        while let (Some(cut), false) = (cuts.next(), rest.is_empty()) {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(told(&pieces), told(&[&bytes]));
    }
}
