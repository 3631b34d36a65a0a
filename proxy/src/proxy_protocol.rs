//! The header by which a balancer tells whom it carries: PROXY protocol, versions 1
//! and 2.
//!
//! A pure reader of the bytes at the beginning of a connection; it reads no socket and
//! trusts nobody. It is strict: a connection without the header, or with a wrong one,
//! is no connection of the balancer's. Bytes behind the header are the client's.
//!
//! ```text
//!  1:  PROXY TCP4 SOURCE DESTINATION PORT PORT CR LF        at most 107 bytes
//!  2:  signature(12)  version|command  family|transport  length(2)  addresses  more
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use memchr::memchr;

/// The longest header of version 1 (section 2.1 of the protocol).
const MAX_TEXT: usize = 107;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What comes before the addresses of version 2.
const FIXED: usize = 16;

/// Addresses and what follows them in version 2. The protocol asks receivers for 536
/// (section 2.2); balancers add some identifiers to that, and a certificate's name.
const MAX_LENGTH: usize = 1024;

/// No header is longer, so no more need be kept of a connection before it is read.
#[cfg(test)]
pub(crate) const MAX_HEADER: usize = FIXED + MAX_LENGTH;

/// How far the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The header goes on in bytes that have not come.
    NeedMore,
    /// The header is whole.
    Done {
        /// Whom the balancer carries; none when it speaks for itself or does not know.
        source: Option<SocketAddr>,
        /// Where the client wanted to go.
        destination: Option<SocketAddr>,
        /// How many bytes the header has.
        used: usize,
    },
    /// It is no header.
    Fault(&'static str),
}

impl Progress {
    /// A header of this many bytes that names nobody.
    fn nobody(used: usize) -> Self {
        Self::Done {
            source: None,
            destination: None,
            used,
        }
    }
}

/// Reads the header from all bytes that a connection has brought so far.
pub(crate) fn parse(bytes: &[u8]) -> Progress {
    match bytes.first() {
        None => Progress::NeedMore,
        Some(b'P') => text(bytes),
        Some(_) => binary(bytes),
    }
}

fn text(bytes: &[u8]) -> Progress {
    const BEGIN: &[u8] = b"PROXY ";
    let begun = BEGIN.len().min(bytes.len());
    if bytes[..begun] != BEGIN[..begun] {
        return Progress::Fault("no PROXY header");
    }
    let window = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = memchr(b'\n', window) else {
        return if window.len() < MAX_TEXT {
            Progress::NeedMore
        } else {
            Progress::Fault("a PROXY line without an end")
        };
    };
    let used = end + 1;
    let line = window[begun.min(end)..end].strip_suffix(b"\r");
    match line.and_then(|line| str::from_utf8(line).ok()) {
        // Whatever follows is to be ignored (section 2.1).
        Some(line) if line == "UNKNOWN" || line.starts_with("UNKNOWN ") => Progress::nobody(used),
        Some(line) => match addresses(line) {
            Some((source, destination)) => Progress::Done {
                source: Some(source),
                destination: Some(destination),
                used,
            },
            None => Progress::Fault("a PROXY line with wrong addresses"),
        },
        None => Progress::Fault("a PROXY line that is no line"),
    }
}

/// Family, two addresses and two ports, with a space between them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || match family {
        "TCP4" => Ipv4Addr::from_str(words.next()?).ok().map(IpAddr::V4),
        "TCP6" => Ipv6Addr::from_str(words.next()?).ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || number(words.next()?);
    let (from, to) = (port()?, port()?);
    let whole = words.next().is_none();
    let source = SocketAddr::new(source, from);
    whole.then_some((source, SocketAddr::new(destination, to)))
}

/// Digits without a zero in front.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn binary(bytes: &[u8]) -> Progress {
    let begun = SIGNATURE.len().min(bytes.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Progress::Fault("no PROXY header");
    }
    let carries = match bytes.get(12) {
        None => return Progress::NeedMore,
        // A balancer speaks for itself: it looks whether we are alive.
        Some(0x20) => false,
        Some(0x21) => true,
        Some(_) => return Progress::Fault("a PROXY header of another version or command"),
    };
    let needed = match bytes.get(13) {
        None => return Progress::NeedMore,
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(_) if !carries => 0,
        Some(_) => return Progress::Fault("a PROXY header of another family than TCP"),
    };
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Progress::NeedMore;
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_LENGTH {
        return Progress::Fault("a PROXY header that is too long");
    }
    if carries && length < needed {
        return Progress::Fault("a PROXY header without its addresses");
    }
    let Some(rest) = rest.get(..length) else {
        return Progress::NeedMore;
    };
    let used = FIXED + length;
    match needed {
        12 if carries => done(&rest[..12], used, |part: [u8; 4]| {
            Ipv4Addr::from(part).into()
        }),
        36 if carries => done(&rest[..36], used, |part: [u8; 16]| {
            Ipv6Addr::from(part).into()
        }),
        _ => Progress::nobody(used),
    }
}

/// Two addresses of `N` bytes and two ports.
fn done<const N: usize>(bytes: &[u8], used: usize, address: fn([u8; N]) -> IpAddr) -> Progress {
    let parts = || {
        let (source, rest) = bytes.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (from, rest) = rest.split_first_chunk::<2>()?;
        let (to, _) = rest.split_first_chunk::<2>()?;
        let socket = |part: &[u8; N], port: &[u8; 2]| {
            SocketAddr::new(address(*part), u16::from_be_bytes(*port))
        };
        Some((socket(source, from), socket(destination, to)))
    };
    match parts() {
        Some((source, destination)) => Progress::Done {
            source: Some(source),
            destination: Some(destination),
            used,
        },
        None => Progress::Fault("a PROXY header without its addresses"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A whole header, with and without bytes behind it, and each of its beginnings.
    fn check(header: &[u8], addresses: Option<(&str, &str)>) {
        let socket = |text: &str| text.parse().unwrap();
        let expected = Progress::Done {
            source: addresses.map(|(source, _)| socket(source)),
            destination: addresses.map(|(_, destination)| socket(destination)),
            used: header.len(),
        };
        let name = String::from_utf8_lossy(header).into_owned();
        assert_eq!(parse(header), expected, "{name:?}");
        let more = [header, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&more), expected, "{name:?} and more");
        for end in 0..header.len() {
            assert_eq!(
                parse(&header[..end]),
                Progress::NeedMore,
                "{name:?} to {end}"
            );
        }
    }

    fn refused(bytes: &[u8]) {
        let told = parse(bytes);
        let name = String::from_utf8_lossy(bytes);
        assert!(matches!(told, Progress::Fault(_)), "{name:?}: {told:?}");
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn headers_of_version_1_are_read() {
        check(
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some(("255.255.255.255:65535", "255.255.255.255:65535")),
        );
        check(
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Some(("192.168.0.1:56324", "192.168.0.11:443")),
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 0 1\r\n",
            Some(("[2001:db8::1]:0", "[::1]:1")),
        );
        let longest = "ffff:f...f:ffff".replace("f...f", &["ffff"; 6].join(":"));
        let unknown = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
        assert_eq!(unknown.len(), MAX_TEXT);
        check(unknown.as_bytes(), None);
        check(b"PROXY UNKNOWN\r\n", None);
    }

    #[test]
    fn what_is_no_header_of_version_1_is_refused() {
        for line in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\t2",
            "PROXY TCP4 1.2.3.04 5.6.7.8 1 2",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP6 fe80::1%1 ::1 1 2",
            "PROXY tcp4 1.2.3.4 5.6.7.8 1 2",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY UNKNOWNX",
            "PROXY ",
            "PROXY \u{e9}",
        ] {
            refused(format!("{line}\r\n").as_bytes());
        }
        refused(b"PROXY UNKNOWN\n");
        refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n");
        refused(b"PROXY\r\n");
        refused(b"PRI * HTTP/2.0\r\n");
        refused(b"POST");
        refused(b"GET / HTTP/1.1\r\n");
        refused(b"\x16\x03\x01");
        refused(format!("PROXY UNKNOWN {}", "x".repeat(MAX_TEXT)).as_bytes());
        refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_TEXT - 15)).as_bytes());
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 80];
        let told = Some(("192.0.2.1:4660", "198.51.100.2:80"));
        check(&version_2(0x21, 0x11, &four), told);
        check(
            &version_2(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()),
            told,
        );
        let six = [
            &[0x20, 1, 0xd, 0xb8][..],
            &[0; 11],
            &[1],
            &[0; 15],
            &[2],
            &[0, 1, 0, 2],
        ]
        .concat();
        check(
            &version_2(0x21, 0x21, &six),
            Some(("[2001:db8::1]:1", "[::2]:2")),
        );
        check(&version_2(0x21, 0x00, &[]), None);
        check(&version_2(0x21, 0x00, &[1, 2, 3]), None);
        check(&version_2(0x20, 0x00, &[]), None);
        check(&version_2(0x20, 0x11, &four), None);
        check(&version_2(0x20, 0x31, &[0; 216]), None);
        check(
            &version_2(0x21, 0x11, &[&four[..], &[0; MAX_LENGTH - 12]].concat()),
            told,
        );
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        refused(&version_2(0x11, 0x11, &[0; 12]));
        refused(&version_2(0x22, 0x11, &[0; 12]));
        refused(&version_2(0x21, 0x12, &[0; 12]));
        refused(&version_2(0x21, 0x31, &[0; 216]));
        refused(&version_2(0x21, 0x11, &[0; 11]));
        refused(&version_2(0x21, 0x21, &[0; 35]));
        refused(&version_2(0x21, 0x11, &[0; MAX_LENGTH + 1]));
        refused(b"\r\n\r\n\0\r\nQUIT\r");
        refused(b"\r\n\r\nGET / HTTP/1.1");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(
            begin in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&SIGNATURE[..]), Just(&b"PROXY TCP4 "[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..1200),
        ) {
            let bytes = [begin, &rest].concat();
            match parse(&bytes) {
                Progress::Done { used, .. } => {
                    prop_assert!(used <= bytes.len() && used <= MAX_HEADER);
                    prop_assert_eq!(parse(&bytes[..used]), parse(&bytes));
                    prop_assert_eq!(parse(&bytes[..used - 1]), Progress::NeedMore);
                }
                Progress::NeedMore => prop_assert!(bytes.len() < MAX_HEADER),
                Progress::Fault(_) => {}
            }
        }

        #[test]
        fn a_header_is_read_back_and_its_beginnings_need_more(source: SocketAddr, destination: SocketAddr) {
            let (family, name) = match (source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => ([from.octets(), to.octets()].concat(), "TCP4"),
                (IpAddr::V6(from), IpAddr::V6(to)) => ([from.octets(), to.octets()].concat(), "TCP6"),
                _ => return Ok(()),
            };
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let code = if name == "TCP4" { 0x11 } else { 0x21 };
            let (from, to) = (SocketAddr::new(source.ip(), source.port()), SocketAddr::new(destination.ip(), destination.port()));
            let told = (from.to_string(), to.to_string());
            let told = Some((told.0.as_str(), told.1.as_str()));
            check(&version_2(0x21, code, &[family, ports].concat()), told);
            let line = format!("PROXY {name} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
            check(line.as_bytes(), told);
        }
    }
}
