//! What a target may answer, how, and when: while the request is still on its way,
//! in parts, with more than it said.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Backend, Proxy, ok, shop};

const CHUNKED_PUT: &str = "PUT /big HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A proxy with one worker in front of a target.
fn before(backend: &Backend) -> Proxy {
    let proxy = Proxy::start(&["--workers", "1"]);
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    proxy
}

#[test]
fn an_upload_goes_on_while_its_answer_comes() {
    let v1 = Backend::raw(|_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Each piece comes back before the next one is sent.
        loop {
            let piece = client.chunk().unwrap();
            let text = String::from_utf8(piece).unwrap();
            client.send(&format!("{:x}\r\n{text}\r\n", text.len()));
            if text.is_empty() {
                break;
            }
        }
        client.is_ended();
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    client.send(CHUNKED_PUT);
    assert_eq!(client.head().unwrap().status(), 200);
    for piece in ["one", "two", "three"] {
        client.send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(client.chunk().unwrap(), piece.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"");
    assert_eq!(proxy.statistics("v1").succeeded, 1);
}

#[test]
fn an_answer_before_the_end_of_the_upload_is_passed_on_and_its_connection_ends() {
    let (told, ends) = mpsc::channel();
    let v1 = Backend::raw(move |number, mut client| {
        client.head().unwrap();
        client.send(&ok("enough"));
        if number == 0 {
            // Not a whole request: the rest must not be made up.
            let mut rest = client.buffer.clone();
            let _ = client.stream.read_to_end(&mut rest);
            told.send(rest).unwrap();
        } else {
            client.is_ended();
        }
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    client.send(CHUNKED_PUT);
    client.send("3\r\none\r\n");
    assert_eq!(client.read().unwrap().text(), "enough");
    let rest = ends.recv_timeout(Duration::from_secs(15)).unwrap();
    let text = String::from_utf8_lossy(&rest);
    assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
    assert_eq!(proxy.client().get("/").unwrap().text(), "enough");
    assert_eq!(v1.connections(), 2);
}

#[test]
fn a_target_that_refuses_an_upload_unread_is_heard() {
    let v1 = Backend::raw(|_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.is_ended();
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    let length = 64 * 1024 * 1024;
    client.send(&format!(
        "PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    ));
    let answer = client.read().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
}

#[test]
fn an_upload_that_its_client_breaks_off_never_becomes_whole() {
    let (told, ends) = mpsc::channel();
    let v1 = Backend::raw(move |_, mut client| {
        let head = client.head().unwrap();
        let mut rest = client.buffer.clone();
        let _ = client.stream.read_to_end(&mut rest);
        told.send((head, rest)).unwrap();
    });
    let proxy = before(&v1);
    for (framing, body) in [
        ("Transfer-Encoding: chunked", "3\r\none\r\n"),
        ("Content-Length: 20000", "one"),
    ] {
        let mut client = proxy.client();
        client.send(&format!(
            "PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}"
        ));
        drop(client);
        let (head, rest) = ends.recv_timeout(Duration::from_secs(15)).unwrap();
        assert!(head.line.starts_with("PUT"), "{head:?}");
        assert!(
            !rest.ends_with(b"0\r\n\r\n") && rest.len() < 20_000,
            "{framing}"
        );
    }
}

#[test]
fn an_upload_with_trailers_keeps_those_that_it_announced() {
    let (told, heads) = mpsc::channel();
    let v1 = Backend::raw(move |_, mut client| {
        client.head().unwrap();
        let mut rest = std::mem::take(&mut client.buffer);
        while !rest.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 1024];
            let count = client.stream.read(&mut bytes).unwrap();
            assert!(count > 0);
            rest.extend_from_slice(&bytes[..count]);
        }
        told.send(String::from_utf8(rest).unwrap()).unwrap();
        client.send(&ok("stored"));
        client.is_ended();
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    client.send(
        "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\none\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\n\r\n",
    );
    assert_eq!(client.read().unwrap().text(), "stored");
    let rest = heads.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!(rest, "3\r\none\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[test]
fn interim_answers_are_not_taken_for_the_answer() {
    let v1 = Backend::raw(|_, mut client| {
        while client.read().is_ok() {
            client.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
            );
            client.send(&ok("answer"));
        }
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "answer");
    }
    assert_eq!(v1.connections(), 1);
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_refused() {
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n c\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\rc\r\n\r\nno",
        "220 mail.example ready\r\n\r\n",
    ];
    for text in heads {
        let v1 = Backend::raw(move |_, mut client| {
            client.read().unwrap();
            client.send(text);
            client.is_ended();
        });
        let proxy = before(&v1);
        assert_eq!(proxy.client().get("/").unwrap().status(), 502, "{text}");
        assert_eq!(
            (v1.connections(), proxy.statistics("v1").failed),
            (1, 1),
            "{text}"
        );
    }
}

#[test]
fn a_chunk_line_that_is_none_breaks_the_answer() {
    for body in [
        "3\r\nonex0\r\n\r\n",
        "3 \r\none\r\n0\r\n\r\n",
        "3\r\none\r\n0\r\nA: b\n\n",
    ] {
        let v1 = Backend::raw(move |_, mut client| {
            client.read().unwrap();
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(body);
            client.is_ended();
        });
        let proxy = before(&v1);
        assert!(proxy.client().get("/").is_err(), "{body:?}");
    }
}

#[test]
fn bytes_behind_an_answer_are_nobodys_answer() {
    for (first, more) in [
        (
            ok("first"),
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "x"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n"
                .to_owned(),
            "\r\n",
        ),
    ] {
        let v1 = Backend::raw(move |_, mut client| {
            client.read().unwrap();
            client.send(&format!("{first}{more}"));
            client.is_ended();
        });
        let proxy = before(&v1);
        let mut client = proxy.client();
        for round in 1..=3 {
            let answer = client.get("/").unwrap();
            assert!(
                ["first", ""].contains(&answer.text().as_str()),
                "{more}: {answer:?}"
            );
            assert_eq!(v1.connections(), round, "{more}");
        }
        assert_eq!(proxy.statistics("v1").succeeded, 3, "{more}");
    }
}

#[test]
fn an_answer_keeps_the_name_of_its_status_and_its_fields_that_repeat() {
    let v1 = Backend::raw(|_, mut client| {
        while client.read().is_ok() {
            client.send(
                "HTTP/1.1 299 Quite Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: x-hop\r\n\
                 X-Hop: 1\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok",
            );
        }
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.get("/").unwrap();
        assert_eq!(answer.line, "HTTP/1.1 299 Quite Fine");
        let cookies = answer
            .fields
            .iter()
            .filter(|(name, _)| name == "set-cookie");
        assert_eq!(cookies.count(), 2);
        assert_eq!(
            (answer.field("x-hop"), answer.field("connection")),
            (None, None)
        );
    }
    assert_eq!(v1.connections(), 1);
}

#[test]
fn trailers_reach_a_client_that_takes_them() {
    let v1 = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\none\r\n0\r\nX-Sum: 7\r\n\r\n");
        client.is_ended();
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    client.head().unwrap();
    let mut text = String::from_utf8(std::mem::take(&mut client.buffer)).unwrap();
    while !text.ends_with("\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = client.stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{text:?}");
        text.push_str(str::from_utf8(&bytes[..count]).unwrap());
    }
    assert_eq!(text, "3\r\none\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[test]
fn a_head_and_a_body_that_come_bit_by_bit_are_one_answer() {
    let v1 = Backend::raw(|_, mut client| {
        while client.read().is_ok() {
            for byte in ok("bit by bit").bytes() {
                if client.stream.write_all(&[byte]).is_err() {
                    return;
                }
            }
        }
    });
    let proxy = before(&v1);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "bit by bit");
    }
    assert_eq!(v1.connections(), 1);
}
