//! What a certificate says of itself: when it is valid, whom it names, who issued it.
//!
//! rustls tells none of it to a server. It reads as much DER (X.690) of a
//! certificate (RFC 5280) as that takes and trusts nothing: the answers are for
//! warnings. It checks no signature.

use std::time::{SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate: context-specific, constructed, number 0.
const VERSION: u8 = 0xA0;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// The name of its issuer, as DER.
    pub(super) issuer: &'a [u8],
    /// The name of its owner, as DER.
    pub(super) subject: &'a [u8],
    /// Seconds since 1970 from which on it is valid.
    pub(super) from: i64,
    /// Seconds since 1970 until which it is valid.
    pub(super) until: i64,
}

/// The statement of a certificate as DER, where it can be read.
pub(super) fn statement(mut certificate: &[u8]) -> Option<Statement<'_>> {
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut rest = expect(&mut outer, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        expect(&mut rest, VERSION)?;
    }
    expect(&mut rest, INTEGER)?;
    expect(&mut rest, SEQUENCE)?;
    let issuer = expect(&mut rest, SEQUENCE)?;
    let mut validity = expect(&mut rest, SEQUENCE)?;
    let from = time(&mut validity)?;
    let until = time(&mut validity)?;
    let subject = expect(&mut rest, SEQUENCE)?;
    Some(Statement {
        issuer,
        subject,
        from,
        until,
    })
}

/// The time now, as certificates count it.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Takes one element of this tag and gives its content.
fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        // Four bytes of length are more than any certificate has.
        let count = usize::from(first & 0x7F);
        let (bytes, after) = rest.split_at_checked(count).filter(|_| count <= 4)?;
        rest = after;
        bytes
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | usize::from(byte))
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    (found == tag).then_some(content)
}

/// Takes a time: two digits of the year in the one form, four in the other.
fn time(input: &mut &[u8]) -> Option<i64> {
    let tag = *input.first()?;
    let text = expect(input, tag)?.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0, |sum, &digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let short = number(&text[..2]);
            // RFC 5280: the form serves for 1950 to 2049.
            (short + if short < 50 { 2000 } else { 1900 }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let mut parts = rest.chunks(2).map(number);
    let mut part = |least, most| parts.next().filter(|part| (least..=most).contains(part));
    let (month, day) = (part(1, 12)?, part(1, 31)?);
    let (hour, minute, second) = (part(0, 23)?, part(0, 59)?, part(0, 60)?);
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March
/// here, so that the day of a leap year comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leaps + (month * 153 + 2) / 5 + (day - 1) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};

    fn check(tag: u8, text: &str, expected: Option<i64>) {
        let mut element = vec![tag, u8::try_from(text.len()).unwrap()];
        element.extend(text.as_bytes());
        assert_eq!(time(&mut element.as_slice()), expected, "{text}");
    }

    #[test]
    fn times_are_seconds_since_1970() {
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(UTC_TIME, "500101000000Z", Some(-631_152_000));
        check(GENERALIZED_TIME, "20000229120000Z", Some(951_825_600));
        check(GENERALIZED_TIME, "20000301000000Z", Some(951_868_800));
        check(GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        check(UTC_TIME, "701301000000Z", None);
        check(UTC_TIME, "7001010000Z", None);
        check(UTC_TIME, "70010100000xZ", None);
        check(GENERALIZED_TIME, "700101000000Z", None);
    }

    fn issued() -> (Vec<u8>, Vec<u8>) {
        let (authority, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.distinguished_name.push(DnType::CommonName, "root");
        let above = root.self_signed(&authority).unwrap();
        let mut own = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        own.not_before = date_time_ymd(2020, 2, 29);
        own.not_after = date_time_ymd(2051, 1, 1);
        let issuer = Issuer::from_params(&root, &authority);
        let below = own.signed_by(&key, &issuer).unwrap();
        (below.der().to_vec(), above.der().to_vec())
    }

    #[test]
    fn a_certificate_tells_its_time_and_its_issuer() {
        let (own, above) = issued();
        let (own, above) = (statement(&own).unwrap(), statement(&above).unwrap());
        assert_eq!((own.from, own.until), (1_582_934_400, 2_556_144_000));
        assert_eq!(own.issuer, above.subject);
        assert_ne!(own.subject, above.subject);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = statement(&bytes);
            let mut damaged = issued().0;
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = statement(&damaged);
            let _ = statement(&damaged[..at]);
        }
    }
}
