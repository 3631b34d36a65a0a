use proptest::prelude::*;

use super::*;

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    data: Vec<u8>,
    trailers: Vec<String>,
    /// How it ended, and how many bytes stand behind its end.
    end: Result<usize, Fault>,
}

/// Reads a body that comes in these pieces, and then the end of its connection.
fn told(mut framing: Framing, pieces: &[&[u8]]) -> Told {
    let mut told = Told {
        data: Vec::new(),
        trailers: Vec::new(),
        end: Ok(0),
    };
    let mut read = Vec::new();
    let mut pieces = pieces.iter();
    loop {
        let mut bytes = Bytes::from(std::mem::take(&mut read));
        let next = framing.next(&mut bytes);
        read = bytes.to_vec();
        match next {
            Ok(Piece::Data(data)) => {
                assert!(!data.is_empty());
                told.data.extend_from_slice(&data);
            }
            Ok(Piece::Trailers(fields)) => {
                let lines = fields.iter();
                let lines =
                    lines.map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
                told.trailers.extend(lines);
            }
            Ok(Piece::End) => {
                assert_eq!(framing.left(), Some(0));
                told.end = Ok(read.len() + pieces.map(|piece| piece.len()).sum::<usize>());
                return told;
            }
            Ok(Piece::More) => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                None if framing.close() => {
                    told.end = Ok(0);
                    return told;
                }
                None => {
                    told.end = Err(framing.next(&mut Bytes::new()).unwrap_err());
                    return told;
                }
            },
            Err(fault) => {
                // It stays broken, whatever comes.
                let rest = framing.next(&mut Bytes::from_static(b"0\r\n\r\n"));
                assert_eq!((rest, framing.close()), (Err(fault), false));
                told.end = Err(fault);
                return told;
            }
        }
    }
}

/// Reads a body at once, byte by byte, and cut in two at each place: all must agree.
fn check(framing: Framing, text: &str, data: &str, trailers: &[&str], end: Result<usize, Fault>) {
    let expected = Told {
        data: data.as_bytes().to_vec(),
        trailers: trailers.iter().map(|&line| line.to_owned()).collect(),
        end,
    };
    let bytes = text.as_bytes();
    assert_eq!(told(framing, &[bytes]), expected, "{text:?}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(told(framing, &single), expected, "{text:?} byte by byte");
    for cut in 0..bytes.len() {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(
            told(framing, &[left, right]),
            expected,
            "{text:?} cut at {cut}"
        );
    }
}

/// A whole body; each part of it, from the beginning, is broken off.
fn whole(framing: Framing, text: &str, data: &str, trailers: &[&str]) {
    check(framing, text, data, trailers, Ok(0));
    check(framing, &format!("{text}more"), data, trailers, Ok(4));
    for end in 0..text.len() {
        let part = told(framing, &[&text.as_bytes()[..end]]);
        assert_eq!(part.end, Err(Fault::BrokenOff), "{text:?} to {end}");
        assert!(data.as_bytes().starts_with(&part.data), "{text:?} to {end}");
        assert!(part.trailers.is_empty(), "{text:?} to {end}");
    }
}

const CHUNKED: Framing = Framing::Chunked(Chunks::Size);

#[test]
fn a_body_ends_where_its_framing_says_and_nowhere_else() {
    check(Framing::Ended, "more", "", &[], Ok(4));
    whole(Framing::Length(5), "hello", "hello", &[]);
    check(Framing::UntilClose, "hello", "hello", &[], Ok(0));
    check(Framing::UntilClose, "", "", &[], Ok(0));
    whole(CHUNKED, "0\r\n\r\n", "", &[]);
    whole(CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello", &[]);
    whole(
        CHUNKED,
        "0a;x=\"y\"\r\nhello\r\n0\r\n\r\n0\r\n\r\n",
        "hello\r\n0\r\n",
        &[],
    );
    whole(CHUNKED, "1\r\nh\r\n4\r\nello\r\n000\r\n\r\n", "hello", &[]);
}

#[test]
fn trailers_end_a_body_and_those_of_the_framing_are_dropped() {
    whole(
        CHUNKED,
        "5\r\nhello\r\n0\r\nA: 1\r\nB:2\r\n\r\n",
        "hello",
        &["a=1", "b=2"],
    );
    whole(CHUNKED, "0\r\nContent-Length: 5\r\n\r\n", "", &[]);
    whole(
        CHUNKED,
        "0\r\nTransfer-Encoding: x\r\nA: 1\r\nSet-Cookie: b\r\n\r\n",
        "",
        &["a=1"],
    );
}

#[test]
fn a_chunk_line_that_is_none_breaks_the_body() {
    let broken = |text: &str, data: &str, fault| check(CHUNKED, text, data, &[], Err(fault));
    for line in [
        "\r\n",
        "x\r\n",
        "5\n",
        "5 \r\n",
        " 5\r\n",
        "+5\r\n",
        "-5\r\n",
        "0x5\r\n",
        "5\r\r\n",
        "5;\rx\r\n",
        "5;\0\r\n",
        "00000000000000005\r\n",
        "10000000000000000\r\n",
        "5,5\r\n",
    ] {
        broken(&format!("{line}hello\r\n0\r\n\r\n"), "", Fault::ChunkLine);
    }
    for behind in [
        "0\r\n\r\n",
        "\n0\r\n\r\n",
        "\rx0\r\n\r\n",
        "more\r\n0\r\n\r\n",
    ] {
        broken(&format!("5\r\nhello{behind}"), "hello", Fault::ChunkLine);
    }
    for behind in [
        "A: 1\n\n",
        "A: 1\r\n\n",
        "A: 1\n\r\n",
        "A 1\r\n\r\n",
        " A: 1\r\n\r\n",
        "A: 1\r\n b\r\n\r\n",
        "A: \0\r\n\r\n",
    ] {
        broken(
            &format!("5\r\nhello\r\n0\r\n{behind}"),
            "hello",
            Fault::Trailers,
        );
    }
}

#[test]
fn lines_between_chunks_and_trailers_have_a_bound() {
    let line = |bytes: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(bytes - 4));
    assert_eq!(told(CHUNKED, &[line(MAX_CHUNK_LINE).as_bytes()]).end, Ok(0));
    let long = line(MAX_CHUNK_LINE + 1);
    assert_eq!(told(CHUNKED, &[long.as_bytes()]).end, Err(Fault::ChunkLine));
    let endless = "5;".to_owned() + &"x".repeat(MAX_CHUNK_LINE);
    assert_eq!(
        told(CHUNKED, &[endless.as_bytes()]).end,
        Err(Fault::ChunkLine)
    );
    let trailers = |bytes: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(bytes - 7));
    assert_eq!(
        told(CHUNKED, &[trailers(MAX_TRAILERS).as_bytes()]).end,
        Ok(0)
    );
    let long = trailers(MAX_TRAILERS + 1);
    assert_eq!(told(CHUNKED, &[long.as_bytes()]).end, Err(Fault::Trailers));
    let endless = "0\r\nA: ".to_owned() + &"x".repeat(MAX_TRAILERS);
    assert_eq!(
        told(CHUNKED, &[endless.as_bytes()]).end,
        Err(Fault::Trailers)
    );
    let many = |fields: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(fields));
    assert_eq!(
        told(CHUNKED, &[many(MAX_TRAILER_FIELDS).as_bytes()]).end,
        Ok(0)
    );
    let end = told(CHUNKED, &[many(MAX_TRAILER_FIELDS + 1).as_bytes()]).end;
    assert_eq!(end, Err(Fault::Trailers));
}

/// The data of a chunked body, read in the plainest way; none unless all of it is
/// there and nothing is wrong with it. Says nothing of trailers.
fn plainly(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = bytes[..end].split(|&b| b == b';').next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            let blank = bytes.starts_with(b"\r\n");
            let ends = blank || bytes.windows(4).any(|four| four == b"\r\n\r\n");
            return ends.then_some(data);
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Parts of chunked bodies, so that many of the lists are nearly sound.
fn part() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"1\r\na\r\n"[..],
        b"3\r\n\r\n0\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"5;x\r\nhello\r\n",
        b"A: b\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"f",
        b"2",
        b"x",
        b";",
    ])
}

proptest! {
    #[test]
    fn a_clean_end_is_one_for_the_plainest_reader_too(
        parts in prop::collection::vec(part(), 0..12),
        cuts in prop::collection::vec(0..64_usize, 0..6),
    ) {
        let bytes = parts.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut < bytes.len()).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        let at_once = told(CHUNKED, &[&bytes]);
        prop_assert_eq!(&told(CHUNKED, &pieces), &at_once);
        if at_once.end.is_ok() {
            prop_assert_eq!(plainly(&bytes), Some(at_once.data));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), left in 1..400_u64) {
        for framing in [CHUNKED, Framing::Length(left), Framing::UntilClose, Framing::Ended] {
            let told = told(framing, &[&bytes]);
            if let Framing::Length(left) = framing {
                prop_assert_eq!(told.end.is_ok(), bytes.len() as u64 >= left);
            }
        }
    }
}
