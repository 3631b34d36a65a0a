use super::*;

const TARGET: &str = "192.0.2.7:8080";

fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn written(request: &Request<()>, length: Length) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, request, length, TARGET.parse().unwrap());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_is_written_with_the_framing_that_is_its_own() {
    let check = |fields: &[(&str, &str)], length: Length, expected: &str| {
        let request = request("POST", "/a?b=c", fields);
        let expected = format!("POST /a?b=c HTTP/1.1\r\n{expected}\r\n");
        assert_eq!(written(&request, length), expected, "{fields:?} {length:?}");
    };
    let host = ("host", "a.example");
    check(&[host], Length::None, "host: a.example\r\n");
    check(
        &[host, ("content-length", "0")],
        Length::None,
        "host: a.example\r\ncontent-length: 0\r\n",
    );
    check(
        &[("content-length", "7"), host, ("transfer-encoding", "gzip")],
        Length::Known(3),
        "host: a.example\r\ncontent-length: 3\r\n",
    );
    check(
        &[("content-length", "7"), host],
        Length::Chunked,
        "host: a.example\r\ntransfer-encoding: chunked\r\n",
    );
    check(
        &[("accept", "a"), ("x-empty", ""), ("accept", "b"), host],
        Length::None,
        "accept: a\r\naccept: b\r\nx-empty: \r\nhost: a.example\r\n",
    );
    check(&[], Length::None, "host: 192.0.2.7:8080\r\n");
}

#[test]
fn a_request_for_the_whole_server_keeps_its_star() {
    let request = request("OPTIONS", "*", &[("host", "a")]);
    let expected = "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(written(&request, Length::None), expected);
}

/// What is read of bytes that are there at once.
fn read(method: &Method, bytes: &[u8]) -> Result<(Parsed, Bytes), Fault> {
    let mut read = Bytes::copy_from_slice(bytes);
    let parsed = parse(&mut read, method, HeaderMap::new())?;
    Ok((parsed, read))
}

/// Reads an answer to the method whole, and each part of its head from the
/// beginning: a part is no answer. Behind the head the body is left alone.
fn check(method: Method, head: &str, framing: Framing, keeps: bool) -> Head {
    for end in 0..head.len() {
        let told = read(&method, &head.as_bytes()[..end]);
        assert!(
            matches!(told, Ok((Parsed::Part, _))),
            "{head:?} to {end}: {told:?}"
        );
    }
    let bytes = format!("{head}body");
    let Ok((Parsed::Whole(told), rest)) = read(&method, bytes.as_bytes()) else {
        panic!("{head:?} is no answer");
    };
    assert_eq!((told.framing, told.keeps), (framing, keeps), "{head:?}");
    assert_eq!(rest, "body", "{head:?}");
    told
}

fn refused(head: &str, fault: Fault) {
    let told = read(&Method::GET, head.as_bytes());
    assert_eq!(told.as_ref().err(), Some(&fault), "{head:?}: {told:?}");
    for end in 0..head.len() {
        let told = read(&Method::GET, &head.as_bytes()[..end]);
        let early = matches!(told, Ok((Parsed::Part, _))) || told.as_ref().err() == Some(&fault);
        assert!(early, "{head:?} to {end}: {told:?}");
    }
}

const CHUNKED: Framing = Framing::Chunked(Chunks::Size);

#[test]
fn the_end_of_a_body_is_told_by_method_status_and_fields() {
    let get = |head: &str, framing, keeps| check(Method::GET, head, framing, keeps);
    get(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Framing::Length(5),
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\ncontent-length:  05 \r\n\r\n",
        Framing::Length(5),
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Framing::Ended,
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        Framing::Length(5),
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
        CHUNKED,
        true,
    );
    get("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false);
    get(
        "HTTP/1.1 200\r\nConnection: keep-alive\r\n\r\n",
        Framing::UntilClose,
        false,
    );
    get("HTTP/1.1 204 No Content\r\n\r\n", Framing::Ended, true);
    get(
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Framing::Ended,
        true,
    );
    get(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        Framing::Ended,
        false,
    );
    check(
        Method::HEAD,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Framing::Ended,
        true,
    );
    check(
        Method::HEAD,
        "HTTP/1.1 200 OK\r\n\r\n",
        Framing::Ended,
        true,
    );
    check(
        Method::HEAD,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Framing::Ended,
        true,
    );
}

#[test]
fn a_connection_goes_on_as_version_and_connection_say() {
    let get = |version: &str, fields: &str, keeps| {
        let head = format!("HTTP/{version} 200 OK\r\nContent-Length: 5\r\n{fields}\r\n");
        check(Method::GET, &head, Framing::Length(5), keeps)
    };
    get("1.1", "", true);
    get("1.1", "Connection: Close\r\n", false);
    get("1.1", "Connection: x, close\r\n", false);
    get(
        "1.1",
        "Connection: close\r\nConnection: keep-alive\r\n",
        false,
    );
    get("1.0", "", false);
    get("1.0", "Connection: Keep-Alive\r\n", true);
    get("1.0", "Connection: x , keep-alive\r\n", true);
    get("1.0", "Connection: keep-alive, close\r\n", false);
}

#[test]
fn fields_of_the_framing_stay_here_and_all_others_pass_in_their_order() {
    let head =
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nTransfer-Encoding: chunked\r\nX-\u{e9}: 1\r\n\r\n";
    refused(head, Fault::Head);
    let head = "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nTransfer-Encoding: chunked\r\n\
                Connection: keep-alive\r\nConnection: x-hop\r\nx-odd: \u{e9}\t1\r\nSET-COOKIE: b\r\nEmpty:\r\n\r\n";
    let told = check(Method::GET, head, CHUNKED, true);
    let fields: Vec<_> = told
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let expected: [(&str, &[u8]); 5] = [
        ("set-cookie", b"a"),
        ("set-cookie", b"b"),
        ("connection", b"x-hop"),
        ("x-odd", "\u{e9}\t1".as_bytes()),
        ("empty", b""),
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        told.reason.as_ref().map(ReasonPhrase::as_bytes),
        Some(&b"Fine"[..])
    );
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    let told = check(Method::GET, twice, Framing::Length(5), true);
    assert_eq!((told.fields.len(), told.reason.is_none()), (1, true));
    let zeros = "HTTP/1.1 200 OK\r\nContent-Length: 010\r\n\r\n";
    let told = check(Method::GET, zeros, Framing::Length(10), true);
    assert_eq!(told.fields[header::CONTENT_LENGTH], "10");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n\r\n";
    let told = check(Method::GET, switched, Framing::Ended, false);
    assert_eq!(told.fields.len(), 1);
}

#[test]
fn an_interim_answer_is_taken_and_nothing_of_it_kept() {
    for code in [100, 102, 103, 199] {
        let head = format!("HTTP/1.1 {code} Wait\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200");
        let (told, rest) = read(&Method::GET, head.as_bytes()).unwrap();
        assert!(matches!(told, Parsed::Interim), "{code}");
        assert_eq!(rest, "HTTP/1.1 200", "{code}");
    }
}

#[test]
fn what_an_honest_target_never_sends_is_refused() {
    let field = |field: &str, fault| refused(&format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n"), fault);
    field(
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        Fault::TwoFramings,
    );
    field(
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        Fault::TwoFramings,
    );
    field("Content-Length: 5\r\nContent-Length: 6", Fault::Length);
    for length in [
        "",
        "+5",
        "-5",
        "5,5",
        "5 5",
        "0x5",
        "5;",
        "18446744073709551616",
    ] {
        field(&format!("Content-Length: {length}"), Fault::Length);
    }
    for encoding in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "chunked;a",
        "",
    ] {
        field(&format!("Transfer-Encoding: {encoding}"), Fault::Encoding);
    }
    field(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        Fault::Encoding,
    );
    refused(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::Encoding,
    );
    for line in [
        "A: b\rc",
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A : b",
        " A: b",
        "A",
        ": b",
        "A: \0",
        "A: \x7f",
    ] {
        field(line, Fault::Head);
    }
    for line in [
        "HTTP/2.0 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 A",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
    ] {
        refused(&format!("{line}\r\n\r\n"), Fault::Head);
    }
}

#[test]
fn a_head_has_a_bound_in_bytes_and_in_fields() {
    let head = |bytes: usize| {
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: ";
        let filler = "x".repeat(bytes - start.len() - 4);
        format!("{start}{filler}\r\n\r\n")
    };
    let told = read(&Method::GET, head(MAX_HEAD).as_bytes());
    assert!(matches!(told, Ok((Parsed::Whole(_), _))));
    let too_long = head(MAX_HEAD + 1);
    for bytes in [too_long.as_bytes(), &too_long.as_bytes()[..MAX_HEAD]] {
        assert_eq!(read(&Method::GET, bytes).err(), Some(Fault::LongHead));
    }
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
    let told = read(&Method::GET, fields(MAX_FIELDS).as_bytes());
    assert!(matches!(told, Ok((Parsed::Whole(_), _))));
    let told = read(&Method::GET, fields(MAX_FIELDS + 1).as_bytes());
    assert_eq!(told.err(), Some(Fault::Head));
}
