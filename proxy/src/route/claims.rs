//! Which claim on a host and a path prefix takes a request.
//!
//! An exact host goes before a wildcard, which stands for one label, and both
//! before [`ANY_HOST`]; a host whose prefixes do not take the path leaves it to
//! the next. Within a host the longest prefix of whole segments wins. It does
//! not know what is claimed.
//!
//! Cost: at most three looks into a map, and within a host a search in sorted
//! prefixes, so ten thousand claims cost a request what ten do.

use std::collections::HashMap;

use cutover_wire::table::ANY_HOST;

/// What takes every path.
const ROOT: &str = "/";

/// See the module.
#[derive(Debug)]
pub(super) struct Claims<T> {
    exact: HashMap<Box<str>, Prefixes<T>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Prefixes<T>>,
    any: Prefixes<T>,
}

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: Prefixes::default(),
        }
    }
}

impl<T> Claims<T> {
    /// The claims on these hosts and path prefixes; of two equal ones the first holds.
    pub(super) fn of<'a>(claims: impl IntoIterator<Item = (&'a str, &'a str, T)>) -> Self {
        let mut all = Self::default();
        for (host, prefix, claimed) in claims {
            all.of_host(host).push(prefix, claimed);
        }
        let hosts = all.exact.values_mut().chain(all.wildcard.values_mut());
        hosts.for_each(Prefixes::settle);
        all.any.settle();
        all
    }

    fn of_host(&mut self, host: &str) -> &mut Prefixes<T> {
        if host == ANY_HOST {
            return &mut self.any;
        }
        match host.strip_prefix("*.") {
            Some(rest) => self.wildcard.entry(rest.into()).or_default(),
            None => self.exact.entry(host.into()).or_default(),
        }
    }

    /// What the request's host (in lower case, without port) and path belong to.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&T> {
        let exact = || self.exact.get(host)?.find(path);
        let wildcard = || {
            if self.wildcard.is_empty() {
                return None;
            }
            let (label, rest) = host.split_once('.')?;
            let prefixes = self.wildcard.get(rest).filter(|_| !label.is_empty())?;
            prefixes.find(path)
        };
        exact().or_else(wildcard).or_else(|| self.any.find(path))
    }
}

/// Whether a prefix takes a path: by whole segments.
pub(super) fn takes(prefix: &str, path: &str) -> bool {
    prefix == ROOT
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path prefixes of one host.
#[derive(Debug)]
struct Prefixes<T> {
    /// What the prefix of every path has.
    root: Option<T>,
    /// The others, in the order of their bytes.
    longer: Vec<Prefix<T>>,
}

#[derive(Debug)]
struct Prefix<T> {
    text: Box<str>,
    /// The place of the longest other one that this one begins with.
    within: Option<usize>,
    claimed: T,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self {
            root: None,
            longer: Vec::new(),
        }
    }
}

impl<T> Prefixes<T> {
    fn push(&mut self, prefix: &str, claimed: T) {
        if prefix == ROOT {
            self.root.get_or_insert(claimed);
        } else {
            let text = prefix.into();
            self.longer.push(Prefix {
                text,
                within: None,
                claimed,
            });
        }
    }

    /// Sorts what was pushed; to be called before anything is sought.
    fn settle(&mut self) {
        // Stable, so that of equal ones the first stays.
        self.longer.sort_by(|a, b| a.text.cmp(&b.text));
        self.longer.dedup_by(|b, a| a.text == b.text);
        for place in 1..self.longer.len() {
            // Whatever this one begins with stands before it, and so does what
            // lies between: the one before it, or one that that one begins with.
            let mut within = Some(place - 1);
            while let Some(other) = within
                && !self.longer[place]
                    .text
                    .starts_with(&*self.longer[other].text)
            {
                within = self.longer[other].within;
            }
            self.longer[place].within = within;
        }
    }

    fn find(&self, path: &str) -> Option<&T> {
        self.find_counted(path, || {})
    }

    /// Calls `looked` for each prefix that is compared.
    fn find_counted(&self, path: &str, mut looked: impl FnMut()) -> Option<&T> {
        // A prefix of the path is not after the path, and everything from the
        // prefix to the path begins with it. So each prefix of the path is the
        // last one that is not after the path, or one that that one begins with.
        let after = self.longer.partition_point(|prefix| {
            looked();
            &*prefix.text <= path
        });
        let mut place = after.checked_sub(1);
        while let Some(at) = place {
            let prefix = &self.longer[at];
            looked();
            if takes(&prefix.text, path) {
                return Some(&prefix.claimed);
            }
            place = prefix.within;
        }
        self.root.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn check(claims: &[(&str, &str)], host: &str, path: &str, expected: Option<&str>) {
        let named = claims
            .iter()
            .map(|&(host, prefix)| (host, prefix, format!("{host}{prefix}")));
        let found = Claims::of(named).find(host, path).cloned();
        assert_eq!(found.as_deref(), expected, "{host}{path}");
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let claims = [
            ("a.example", "/"),
            ("a.example", "/api"),
            ("a.example", "/api-b"),
            ("a.example", "/api/v2"),
        ];
        check(&claims, "a.example", "/", Some("a.example/"));
        check(&claims, "a.example", "*", Some("a.example/"));
        check(&claims, "a.example", "/apix", Some("a.example/"));
        check(&claims, "a.example", "/api", Some("a.example/api"));
        check(&claims, "a.example", "/api/", Some("a.example/api"));
        check(&claims, "a.example", "/api/z", Some("a.example/api"));
        check(&claims, "a.example", "/api-b/z", Some("a.example/api-b"));
        check(&claims, "a.example", "/api/v20", Some("a.example/api"));
        check(&claims, "a.example", "/api/v2/x", Some("a.example/api/v2"));
    }

    #[test]
    fn an_exact_host_goes_before_a_wildcard_and_both_before_any() {
        let claims = [
            ("a.b.example", "/only"),
            ("*.b.example", "/"),
            ("*.example", "/"),
            ("*", "/"),
        ];
        check(&claims, "a.b.example", "/only/x", Some("a.b.example/only"));
        check(&claims, "a.b.example", "/", Some("*.b.example/"));
        check(&claims, "x.b.example", "/", Some("*.b.example/"));
        check(&claims, "b.example", "/", Some("*.example/"));
        check(&claims, "x.y.b.example", "/", Some("*/"));
        check(&claims, ".b.example", "/", Some("*/"));
        check(&claims, "", "/", Some("*/"));
        check(&claims[..3], "example", "/", None);
        check(&claims[..3], "*", "/", None);
        check(&claims[..1], "a.b.example", "/", None);
    }

    #[test]
    fn ten_thousand_claims_are_not_gone_through() {
        let texts: Vec<String> = (0..10_000).map(|n| format!("/app{n}/v{}", n % 7)).collect();
        let mut prefixes = Prefixes::default();
        texts.iter().for_each(|text| prefixes.push(text, text));
        prefixes.push(ROOT, &texts[0]);
        prefixes.settle();
        for (text, rest) in texts.iter().flat_map(|text| [(text, "/x/y"), (text, "x")]) {
            let mut looks = 0;
            let path = format!("{text}{rest}");
            let found = prefixes.find_counted(&path, || looks += 1);
            assert_eq!(
                found == Some(&text),
                rest == "/x/y" || *text == texts[0],
                "{path}"
            );
            // 2^14 is above ten thousand.
            assert!(looks <= 16, "{looks} for {path}");
        }
    }

    /// The time of one look-up among so many claims, half of them on one host.
    fn time_among(count: usize) -> Duration {
        const LOOKS: usize = 20_000;
        let claim = |n: usize| match n % 2 {
            0 => (format!("host{n}.example"), "/".to_owned()),
            _ => ("shared.example".to_owned(), format!("/in/{n}")),
        };
        let texts: Vec<(String, String)> = (0..count).map(claim).collect();
        let named = texts.iter().enumerate();
        let all = Claims::of(named.map(|(n, (host, prefix))| (&**host, &**prefix, n)));
        let asked: Vec<(&str, String, usize)> = (0..LOOKS)
            .map(|n| {
                let n = n.wrapping_mul(7_919) % count;
                let (host, prefix) = &texts[n];
                (&**host, format!("{}/x/y", prefix.trim_end_matches('/')), n)
            })
            .collect();
        let begun = Instant::now();
        for (host, path, n) in &asked {
            assert_eq!(all.find(host, path), Some(n));
        }
        begun.elapsed() / u32::try_from(LOOKS).unwrap()
    }

    #[test]
    fn a_look_up_takes_among_ten_thousand_claims_what_it_takes_among_ten() {
        // In turns, and the best of each: the machine does other things too.
        let rounds: Vec<_> = (0..7)
            .map(|_| (time_among(10), time_among(10_000)))
            .collect();
        let few = rounds.iter().map(|round| round.0).min().unwrap();
        let many = rounds.iter().map(|round| round.1).min().unwrap();
        eprintln!("a look-up among 10 claims: {few:?}, among 10,000: {many:?}");
        // Steps of a search in sorted prefixes, 3 and 13, and a cache that is colder.
        assert!(many <= few * 8, "{few:?} among 10, {many:?} among 10,000");
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            1 => Just("*".to_owned()),
            3 => prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4)
                .prop_map(|labels| labels.join(".")),
            1 => ".{0,8}",
        ]
    }

    fn path() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => prop::collection::vec(prop::sample::select(vec!["a", "ab", "a-", "", "é"]), 0..5)
                .prop_map(|segments| format!("/{}", segments.join("/"))),
            1 => "/.{0,8}",
        ]
    }

    /// What the module says, written down without any cleverness.
    fn reference(claims: &[(String, String)], host: &str, path: &str) -> Option<usize> {
        let one_label = |wildcard: &str| {
            let rest = wildcard
                .strip_prefix('*')
                .filter(|rest| rest.starts_with('.'));
            let label = rest.and_then(|rest| host.strip_suffix(rest));
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        };
        let exact = |claimed: &str| claimed != "*" && !claimed.starts_with("*.") && claimed == host;
        let steps: [&dyn Fn(&str) -> bool; 3] = [&exact, &one_label, &|claimed| claimed == "*"];
        steps.iter().find_map(|fits| {
            let mut best: Option<usize> = None;
            for (place, (claimed, prefix)) in claims.iter().enumerate() {
                let longer = best.is_none_or(|best| claims[best].1.len() < prefix.len());
                if fits(claimed) && takes(prefix, path) && longer {
                    best = Some(place);
                }
            }
            best
        })
    }

    proptest! {
        #[test]
        fn finding_agrees_with_going_through_all(
            claims in prop::collection::vec((host(), path()), 0..30),
            asked in prop::collection::vec((host(), prop_oneof![4 => path(), 1 => ".{0,4}"]), 1..20),
        ) {
            let named = claims.iter().enumerate();
            let all = Claims::of(named.map(|(place, (host, prefix))| (&**host, &**prefix, place)));
            for (host, path) in asked {
                let found = all.find(&host, &path).copied();
                prop_assert_eq!(found, reference(&claims, &host, &path), "{}{}", host, path);
            }
        }
    }
}
