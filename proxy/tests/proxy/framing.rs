//! The bytes of requests: what is refused, what passes, and what a target sees of it.
//!
//! Each row is sent as it stands. The classes are those of the published surveys of
//! request smuggling; the bytes are our own.

mod journal;
mod property;
mod reference;

use std::io::Write;

use journal::{Journal, target};

use crate::common::{Proxy, shop, until};

/// What becomes of a row.
enum Expected {
    /// 4xx, the end of the connection, and nothing at the target.
    Refused,
    /// These requests, as `METHOD TARGET BODY`, and the connection goes on.
    Passed(&'static [&'static str]),
    /// These requests, and then a refusal.
    PassedThenRefused(&'static [&'static str]),
}

use Expected::{Passed, PassedThenRefused, Refused};

type Row = (&'static str, Vec<u8>, Expected);

/// A GET with further fields.
fn get(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n"].concat()
}

/// A GET with this first line.
fn line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nHost: a\r\n\r\n"].concat()
}

/// A POST with further fields and a body.
fn post(fields: &[u8], body: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n", body].concat()
}

/// A chunked POST.
fn chunked(body: &[u8]) -> Vec<u8> {
    post(b"Transfer-Encoding: chunked", body)
}

const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

fn request_lines() -> Vec<Row> {
    vec![
        ("plain", line(b"GET / HTTP/1.1"), Passed(&["GET / "])),
        (
            "any token as method",
            line(b"M-SEARCH!# /x HTTP/1.1"),
            Passed(&["M-SEARCH!# /x "]),
        ),
        (
            "lower-case method",
            line(b"get / HTTP/1.1"),
            Passed(&["get / "]),
        ),
        ("HTTP/1.0", line(b"GET / HTTP/1.0"), Passed(&["GET / "])),
        (
            "one empty line before",
            [b"\r\n", &get(b"A: b")[..]].concat(),
            Passed(&["GET / "]),
        ),
        (
            "absolute form",
            line(b"GET http://a/x?y HTTP/1.1"),
            Passed(&["GET /x?y "]),
        ),
        (
            "absolute form without path",
            line(b"GET http://A HTTP/1.1"),
            Passed(&["GET / "]),
        ),
        (
            "asterisk",
            line(b"OPTIONS * HTTP/1.1"),
            Passed(&["OPTIONS * "]),
        ),
        (
            "two slashes",
            line(b"GET //b/x HTTP/1.1"),
            Passed(&["GET //b/x "]),
        ),
        (
            "two empty lines before",
            [b"\r\n\r\n", &get(b"A: b")[..]].concat(),
            Refused,
        ),
        (
            "bare LF before",
            [b"\n", &get(b"A: b")[..]].concat(),
            Refused,
        ),
        (
            "two spaces before the target",
            line(b"GET  / HTTP/1.1"),
            Refused,
        ),
        (
            "two spaces before the version",
            line(b"GET /  HTTP/1.1"),
            Refused,
        ),
        ("tab for a space", line(b"GET\t/ HTTP/1.1"), Refused),
        ("tab before the version", line(b"GET /\tHTTP/1.1"), Refused),
        ("space before the method", line(b" GET / HTTP/1.1"), Refused),
        ("space after the version", line(b"GET / HTTP/1.1 "), Refused),
        ("LF within the line", line(b"GET /\nHTTP/1.1"), Refused),
        ("CR within the line", line(b"GET /\rHTTP/1.1"), Refused),
        ("space in the target", line(b"GET /a b HTTP/1.1"), Refused),
        ("NUL in the target", line(b"GET /a\0b HTTP/1.1"), Refused),
        ("DEL in the target", line(b"GET /a\x7fb HTTP/1.1"), Refused),
        ("fragment", line(b"GET /a#b HTTP/1.1"), Refused),
        ("target without slash", line(b"GET ! HTTP/1.1"), Refused),
        ("target is a host", line(b"GET a HTTP/1.1"), Refused),
        ("asterisk of a GET", line(b"GET * HTTP/1.1"), Refused),
        ("method with a quote", line(b"G\"T / HTTP/1.1"), Refused),
        ("method with a colon", line(b"G:T / HTTP/1.1"), Refused),
        ("no method", line(b" / HTTP/1.1"), Refused),
        ("NUL for a method", line(b"\0 / HTTP/1.1"), Refused),
        ("no version", line(b"GET /"), Refused),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), Refused),
        ("HTTP/2.0", line(b"GET / HTTP/2.0"), Refused),
        ("HTTP/1.2", line(b"GET / HTTP/1.2"), Refused),
        ("HTTP/1.32", line(b"GET / HTTP/1.32"), Refused),
        ("HTTP/1.", line(b"GET / HTTP/1."), Refused),
        (
            "version that overflows",
            line(b"GET / HTTP/4294967297.257"),
            Refused,
        ),
        ("CR in the version", line(b"GET / HTTP/\r1.1"), Refused),
        ("lower-case version", line(b"GET / http/1.1"), Refused),
        ("CONNECT", line(b"CONNECT a:443 HTTP/1.1"), Refused),
        (
            "TLS",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n".to_vec(),
            Refused,
        ),
    ]
}

fn hosts() -> Vec<Row> {
    let host = |hosts: &[u8]| [b"GET / HTTP/1.1\r\n", hosts, b"\r\n"].concat();
    vec![
        (
            "host with port",
            host(b"Host: a.example:8080\r\n"),
            Passed(&["GET / "]),
        ),
        ("empty host", host(b"Host:\r\n"), Passed(&["GET / "])),
        (
            "no host in 1.0",
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            Passed(&["GET / "]),
        ),
        ("two hosts", host(b"Host: a\r\nHost: b\r\n"), Refused),
        ("two equal hosts", host(b"Host: a\r\nhost: a\r\n"), Refused),
        ("no host", host(b"A: b\r\n"), Refused),
        (
            "two hosts in 1.0",
            b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "host and address differ",
            line(b"GET http://b/ HTTP/1.1"),
            Refused,
        ),
        ("ports differ", line(b"GET http://a:81/ HTTP/1.1"), Refused),
        (
            "user before the host",
            line(b"GET http://u@a/ HTTP/1.1"),
            Refused,
        ),
        ("other scheme", line(b"GET ftp://a/ HTTP/1.1"), Refused),
        ("host with a user", host(b"Host: u@a\r\n"), Refused),
        ("host with a path", host(b"Host: a/b\r\n"), Refused),
        ("host with a space", host(b"Host: a b\r\n"), Refused),
        ("host with a comma", host(b"Host: a, b\r\n"), Refused),
        ("host with two ports", host(b"Host: a:1:2\r\n"), Refused),
        ("host with a name as port", host(b"Host: a:b\r\n"), Refused),
        ("host with NUL", host(b"Host: a\0.b\r\n"), Refused),
        (
            "host with 0xFF around",
            host(b"Host: \xffa\xff\r\n"),
            Refused,
        ),
    ]
}

fn fields() -> Vec<Row> {
    vec![
        (
            "spaces around a value",
            get(b"A: \t b \t"),
            Passed(&["GET / "]),
        ),
        ("empty value", get(b"A:"), Passed(&["GET / "])),
        (
            "bytes above ASCII in a value",
            get(b"A: \xa0b\x85"),
            Passed(&["GET / "]),
        ),
        ("underscore in a name", get(b"A_b: c"), Passed(&["GET / "])),
        ("bare LF ends a field", get(b"A: b\nC: d"), Refused),
        (
            "bare LF ends the head",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(),
            Refused,
        ),
        (
            "bare LF everywhere",
            b"GET / HTTP/1.1\nHost: a\n\n".to_vec(),
            Refused,
        ),
        (
            "bare LF after a colon",
            get(b"A:\n\nGET /hidden HTTP/1.1"),
            Refused,
        ),
        ("bare CR in a value", get(b"A: b\rC: d"), Refused),
        ("bare CR ends a value", get(b"A: b\r"), Refused),
        (
            "CR before the end",
            b"GET / HTTP/1.1\r\nHost: a\r\n\rZ\r\n\r\n".to_vec(),
            Refused,
        ),
        ("CR CR LF", get(b"A: b\r\r\nC: d"), Refused),
        ("NUL in a value", get(b"A: b\0c"), Refused),
        ("NUL ends a value", get(b"A: b\0"), Refused),
        ("NUL and CR in a value", get(b"A: b\0\rc"), Refused),
        ("bell in a value", get(b"A: b\x07"), Refused),
        ("DEL in a value", get(b"A: b\x7f"), Refused),
        ("obs-fold with a space", get(b"A: b\r\n c"), Refused),
        ("obs-fold with a tab", get(b"A: b\r\n\tc"), Refused),
        ("obs-fold of nothing", get(b"A: b\r\n "), Refused),
        (
            "space before the first name",
            b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "tab before the first name",
            b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n".to_vec(),
            Refused,
        ),
        ("space before a colon", get(b"A : b"), Refused),
        ("tab before a colon", get(b"A\t: b"), Refused),
        (
            "space before the colon of a length",
            post(b"Content-Length : 33", HIDDEN),
            Refused,
        ),
        (
            "0x85 ends a name",
            post(b"Content-Length\x85: 33", HIDDEN),
            Refused,
        ),
        ("0xEF begins a name", get(b"\xefA: b"), Refused),
        ("NUL in a name", get(b"A\0: b"), Refused),
        ("CR in a name", get(b"A\rB: b"), Refused),
        ("LF in a name", get(b"A\nB: b"), Refused),
        ("slash in a name", get(b"A/B: c"), Refused),
        ("at sign in a name", get(b"A@B: c"), Refused),
        ("brackets in a name", get(b"(A): c"), Refused),
        ("no name", get(b": b"), Refused),
        ("no name and no value", get(b":"), Refused),
        ("no colon", get(b"A"), Refused),
        (
            "no colon but a space",
            post(b"Content-Length 33", HIDDEN),
            Refused,
        ),
        (
            "name over two lines",
            post(b"Transfer-\r\nEncoding: chunked", b"0\r\n\r\n"),
            Refused,
        ),
        (
            "lookalike of a length",
            post(b"Content_Length: 33", HIDDEN),
            Refused,
        ),
        (
            "lookalike of an encoding",
            post(b"Transfer_Encoding: chunked", b"0\r\n\r\n"),
            Refused,
        ),
        (
            "lookalike of a claim",
            get(b"X_Forwarded-For: 1.2.3.4"),
            Refused,
        ),
        (
            "Connection names a claim",
            get(b"Connection: close, X-Forwarded-For"),
            Refused,
        ),
        ("Connection names Host", get(b"Connection: Host"), Refused),
        (
            "Connection names Cookie",
            get(b"Connection: cookie"),
            Refused,
        ),
        (
            "Connection names a length",
            post(b"Content-Length: 33\r\nConnection: content-length", HIDDEN),
            Refused,
        ),
    ]
}

fn lengths() -> Vec<Row> {
    let length = |value: &[u8]| {
        let field = [b"Content-Length: ", value].concat();
        post(&field, HIDDEN)
    };
    let two = |one: &[u8], two: &[u8]| {
        let fields = [b"Content-Length: ", one, b"\r\nContent-Length: ", two].concat();
        post(&fields, HIDDEN)
    };
    vec![
        (
            "length",
            post(b"Content-Length: 3", b"abc"),
            Passed(&["POST / abc"]),
        ),
        (
            "length of a GET",
            [
                &b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"[..],
                b"abc",
            ]
            .concat(),
            Passed(&["GET /x abc"]),
        ),
        (
            "length with leading zeros",
            post(b"Content-Length: 010", b"0123356789"),
            Passed(&["POST / 0123356789"]),
        ),
        (
            "a request as a body",
            post(b"Content-Length: 33", HIDDEN),
            Passed(&["POST / GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"]),
        ),
        (
            "length 0, then a request",
            length(b"0"),
            Passed(&["POST / ", "GET /hidden "]),
        ),
        (
            "no length, then a request",
            post(b"A: b", HIDDEN),
            Passed(&["POST / ", "GET /hidden "]),
        ),
        ("two different lengths", two(b"33", b"0"), Refused),
        (
            "two different lengths, the other way",
            two(b"0", b"33"),
            Refused,
        ),
        ("two equal lengths", two(b"33", b"33"), Refused),
        ("an empty length before one", two(b"", b"33"), Refused),
        ("list of equal lengths", length(b"33, 33"), Refused),
        ("list of lengths", length(b"0,33"), Refused),
        ("length with a plus", length(b"+33"), Refused),
        ("length with a minus", length(b"-33"), Refused),
        ("length of base sixteen", length(b"0x21"), Refused),
        ("length with an underscore", length(b"3_3"), Refused),
        ("length with a letter behind", length(b"33Z"), Refused),
        ("length with a space within", length(b"3 3"), Refused),
        ("length with a point", length(b"33.0"), Refused),
        ("length in quotes", length(b"\"33\""), Refused),
        ("length with an exponent", length(b"33e0"), Refused),
        ("empty length", length(b""), Refused),
        (
            "length that overflows",
            length(b"18446744073709551649"),
            Refused,
        ),
        ("length with 0xA0", length(b"\xa033"), Refused),
        ("length with a form feed", length(b"\x0c33"), Refused),
    ]
}

fn encodings() -> Vec<Row> {
    let body = b"0\r\n\r\n";
    let encoding = |value: &[u8]| post(&[b"Transfer-Encoding:", value].concat(), body);
    vec![
        ("chunked", encoding(b" chunked"), Passed(&["POST / "])),
        (
            "chunked without a space",
            encoding(b"chunked"),
            Passed(&["POST / "]),
        ),
        (
            "chunked in capitals",
            encoding(b" CHUNKED"),
            Passed(&["POST / "]),
        ),
        (
            "CL and TE",
            post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", body),
            Refused,
        ),
        (
            "TE and CL",
            post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", body),
            Refused,
        ),
        (
            "CL and unknown TE",
            post(b"Content-Length: 5\r\nTransfer-Encoding: ,chunked", body),
            Refused,
        ),
        (
            "TE in HTTP/1.0",
            [
                b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                &body[..],
            ]
            .concat(),
            Refused,
        ),
        (
            "two TE",
            post(
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                body,
            ),
            Refused,
        ),
        (
            "TE identity and TE",
            post(
                b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
                body,
            ),
            Refused,
        ),
        (
            "TE and TE identity",
            post(
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                body,
            ),
            Refused,
        ),
        ("chunked twice", encoding(b" chunked, chunked"), Refused),
        ("gzip before chunked", encoding(b" gzip, chunked"), Refused),
        ("chunked before gzip", encoding(b" chunked, gzip"), Refused),
        ("identity", encoding(b" identity"), Refused),
        ("unknown encoding", encoding(b" cow"), Refused),
        ("empty encoding", encoding(b""), Refused),
        ("comma before", encoding(b" ,chunked"), Refused),
        ("comma behind", encoding(b" chunked,"), Refused),
        ("space behind", encoding(b" chunked "), Refused),
        ("tab behind", encoding(b" chunked\t"), Refused),
        ("tab before", encoding(b"\tchunked"), Refused),
        ("two spaces before", encoding(b"  chunked"), Refused),
        ("vertical tab before", encoding(b" \x0bchunked"), Refused),
        ("0xA0 around", encoding(b" \xa0chunked\xa0"), Refused),
        ("0xFF around", encoding(b" \xffchunked\xff"), Refused),
        ("quotes around", encoding(b" \"chunked\""), Refused),
        ("parameter", encoding(b" chunked;a=b"), Refused),
        ("letter before", encoding(b" xchunked"), Refused),
        ("letter behind", encoding(b" chunkedx"), Refused),
        ("folded", encoding(b"\r\n chunked"), Refused),
        ("NUL behind", encoding(b" chunked\0"), Refused),
    ]
}

fn chunks() -> Vec<Row> {
    let size = |size: &[u8]| chunked(&[size, b"\r\nabc\r\n0\r\n\r\n"].concat());
    vec![
        (
            "chunks",
            chunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
            Passed(&["POST / abcde"]),
        ),
        (
            "zeros before a size",
            size(b"0003"),
            Passed(&["POST / abc"]),
        ),
        ("extension", size(b"3;a=b;c=\"d\""), Passed(&["POST / abc"])),
        (
            "trailer",
            chunked(b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
            Passed(&["POST / abc"]),
        ),
        (
            "a request as a chunk",
            chunked(b"21\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n"),
            Passed(&["POST / GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"]),
        ),
        (
            "a request as a trailer's value",
            chunked(b"0\r\nX:POST / HTTP/1.1\r\n\r\n"),
            Passed(&["POST / "]),
        ),
        (
            "bare LF ends a size",
            chunked(b"3\nabc\r\n0\r\n\r\n"),
            Refused,
        ),
        (
            "LF in an extension",
            chunked(b"3;a\nabc\r\n0\r\n\r\n"),
            Refused,
        ),
        ("CR in an extension", size(b"3;a\rb"), Refused),
        ("CR before an extension", size(b"3\r\r;a"), Refused),
        (
            "CR CR for the end of a size",
            chunked(b"3;a\r\rabc\r\n0\r\n\r\n"),
            Refused,
        ),
        ("space before a size", size(b" 3"), Refused),
        ("space behind a size", size(b"3 "), Refused),
        ("space before an extension", size(b"3 ;a=b"), Refused),
        ("tab behind a size", size(b"3\t"), Refused),
        ("size with 0x", size(b"0x3"), Refused),
        ("size with a plus", size(b"+3"), Refused),
        ("size with a minus", size(b"-3"), Refused),
        ("size -0x0", chunked(b"-0x0\r\n\r\n"), Refused),
        ("size with an underscore", size(b"0_3"), Refused),
        (
            "size with letters behind",
            size(b"3these-are-none"),
            Refused,
        ),
        ("size of 17 digits", size(b"00000000000000003"), Refused),
        ("size that overflows", size(b"10000000000000003"), Refused),
        ("size with a comma", size(b"3,3"), Refused),
        ("size with NUL", size(b"3\0"), Refused),
        ("no size", size(b""), Refused),
        ("no size at the end", chunked(b"\r\n\r\n"), Refused),
        ("only an extension", size(b";a=b"), Refused),
        ("a word as size", size(b"INVALID"), Refused),
        (
            "empty line between chunks",
            chunked(b"3\r\nabc\r\n\r\n0\r\n\r\n"),
            Refused,
        ),
        (
            "bare LF ends a chunk",
            chunked(b"3\r\nabc\n0\r\n\r\n"),
            Refused,
        ),
        (
            "nothing ends a chunk",
            chunked(b"3\r\nabc0\r\n\r\n"),
            Refused,
        ),
        (
            "two other bytes end a chunk",
            chunked(b"3\r\nabcXX0\r\n\r\n"),
            Refused,
        ),
        (
            "CR and another byte end a chunk",
            chunked(b"3\r\nabc\rX0\r\n\r\n"),
            Refused,
        ),
        (
            "chunk longer than its size",
            chunked(b"2\r\nabc\r\n0\r\n\r\n"),
            Refused,
        ),
        ("bare LF ends the last size", chunked(b"0\n\r\n"), Refused),
        ("bare LF ends the body", chunked(b"0\r\n\n"), Refused),
        (
            "two other bytes end the body",
            chunked(b"0\r\nXX\r\n\r\n"),
            Refused,
        ),
        (
            "bare LF in a trailer",
            chunked(b"0\r\nA: b\nC: d\r\n\r\n"),
            Refused,
        ),
        ("NUL in a trailer", chunked(b"0\r\nA: b\0\r\n\r\n"), Refused),
        (
            "folded trailer",
            chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
            Refused,
        ),
        (
            "trailer with a space before the colon",
            chunked(b"0\r\nA : b\r\n\r\n"),
            Refused,
        ),
        (
            "length as a trailer",
            chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
            Refused,
        ),
        (
            "encoding as a trailer",
            chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Refused,
        ),
        (
            "host as a trailer",
            chunked(b"0\r\nHost: b\r\n\r\n"),
            Refused,
        ),
        (
            "Authorization as a trailer",
            chunked(b"0\r\nAuthorization: b\r\n\r\n"),
            Refused,
        ),
        (
            "a claim as a trailer",
            chunked(b"0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
            Refused,
        ),
        (
            "long extension",
            size(&[b"3;", &[b'x'; 300][..]].concat()),
            Refused,
        ),
        (
            "many trailers",
            chunked(&[b"0\r\n", &b"A: b\r\n".repeat(40)[..], b"\r\n"].concat()),
            Refused,
        ),
    ]
}

fn pipelines() -> Vec<Row> {
    let after = |first: Vec<u8>, second: &[u8]| [&first[..], second].concat();
    vec![
        (
            "three in a row",
            after(
                post(b"Content-Length: 3", b"abc"),
                &after(chunked(b"1\r\nd\r\n0\r\n\r\n"), HIDDEN),
            ),
            Passed(&["POST / abc", "POST / d", "GET /hidden "]),
        ),
        (
            "an empty line after a body",
            after(post(b"Content-Length: 3", b"abc\r\n"), HIDDEN),
            Passed(&["POST / abc", "GET /hidden "]),
        ),
        (
            "a faulty one after a good one",
            after(get(b"A: b"), b"GET /hidden HTTP/1.1\r\n\r\n"),
            PassedThenRefused(&["GET / "]),
        ),
        (
            "a faulty chunk after a good one",
            after(get(b"A: b"), &chunked(b"x\r\n")),
            PassedThenRefused(&["GET / "]),
        ),
        (
            "a NUL after a body",
            after(chunked(b"0\r\n\r\n"), b"\0\r\n\r\n"),
            PassedThenRefused(&["POST / "]),
        ),
        (
            "two empty lines after a body",
            after(post(b"Content-Length: 3", b"abc\r\n\r\n"), HIDDEN),
            PassedThenRefused(&["POST / abc"]),
        ),
        // A byte too many is the beginning of the next method, a token as any other.
        (
            "a body longer than its length",
            after(post(b"Content-Length: 3", b"abcd"), HIDDEN),
            Passed(&["POST / abc", "dGET /hidden "]),
        ),
        (
            "bytes after a last request",
            after(get(b"Connection: close"), b"no request\r\n\r\n"),
            Passed(&["GET / "]),
        ),
    ]
}

fn told(journal: &Journal) -> Vec<String> {
    let told = journal.requests.iter().map(|request| {
        let target = String::from_utf8_lossy(&request.target);
        let body = String::from_utf8_lossy(&request.body);
        format!("{} {target} {body}", request.method)
    });
    told.collect()
}

#[test]
fn each_way_to_frame_is_refused_whole_or_passes_as_the_requests_that_it_is() {
    let proxy = Proxy::start(&[]);
    let (backend, journal) = target();
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let rows = [
        request_lines(),
        hosts(),
        fields(),
        lengths(),
        encodings(),
        chunks(),
        pipelines(),
    ];
    let (mut refused, mut passed) = (0, 0);
    for (name, bytes, expected) in rows.into_iter().flatten() {
        std::mem::take(&mut *journal.lock().unwrap());
        let mut client = proxy.client();
        client.stream.write_all(&bytes).unwrap();
        let (requests, refuses): (&[&str], bool) = match expected {
            Refused => (&[], true),
            Passed(requests) => (requests, false),
            PassedThenRefused(requests) => (requests, true),
        };
        let mut read = || {
            client
                .read()
                .unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        for _ in requests {
            assert_eq!(read().status(), 200, "{name}");
        }
        if refuses {
            let answer = read();
            assert!((400..500).contains(&answer.status()), "{name}: {answer:?}");
            assert!(client.is_ended(), "{name}: the connection goes on");
            refused += 1;
        } else {
            passed += 1;
        }
        let journal = journal.lock().unwrap();
        assert_eq!(told(&journal), requests, "{name}");
        assert!(journal.faults.is_empty(), "{name}: {:?}", journal.faults);
        if requests.is_empty() {
            assert_eq!(journal.bytes, 0, "{name}: something reached the target");
        }
        let kind = if refuses { "refused" } else { "passed" };
        println!("{kind:8} {name}");
    }
    println!("{refused} refused, {passed} passed");
}

#[test]
fn a_fault_that_comes_after_the_head_breaks_the_body_at_the_target() {
    let proxy = Proxy::start(&[]);
    let (backend, journal) = target();
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let ends: [&[u8]; 14] = [
        b"0\n\r\n",
        b"0\r\n\n",
        b"0 \r\n\r\n",
        b"00000000000000000\r\n\r\n",
        b"0x0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0\r\nHost: b\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\0\r\n\r\n",
        b"3 ;a\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    ];
    for end in ends {
        let name = String::from_utf8_lossy(end);
        std::mem::take(&mut *journal.lock().unwrap());
        let mut client = proxy.client();
        client
            .stream
            .write_all(&chunked(b"5\r\nbegun\r\n"))
            .unwrap();
        until("the body began at the target", || {
            journal.lock().unwrap().bytes > 0
        });
        let more = [end, HIDDEN].concat();
        client.stream.write_all(&more).unwrap();
        // The connection may end with a refusal or without a word, never with a success.
        if let Ok(answer) = client.read() {
            assert!(
                (400..500).contains(&answer.status()),
                "{name:?}: {answer:?}"
            );
        }
        assert!(client.is_ended(), "{name:?}: the connection goes on");
        until("the target sees its end", || {
            !journal.lock().unwrap().broken.is_empty()
        });
        let journal = journal.lock().unwrap();
        assert_eq!(told(&journal), [""; 0], "{name:?}");
        assert!(
            !journal.broken[0].ends_with(b"0\r\n\r\n"),
            "{name:?}: completed"
        );
    }
}
