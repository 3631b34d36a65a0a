use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One line with a value: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the format strictly: each family is announced once by HELP and TYPE,
/// its lines follow at once, no line comes twice, and every histogram adds up.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line does not end");
    let mut samples: Vec<Sample> = Vec::new();
    let mut families: BTreeSet<String> = BTreeSet::new();
    let mut family: Option<(String, String)> = None;
    let mut helped = None;
    for line in text.split_terminator('\n') {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(
                !text.is_empty() && families.insert(name.to_owned()),
                "{line}"
            );
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let sample = parse_sample(line);
            let (family, kind) = family.as_ref().expect("a line before its TYPE");
            check_name(family, kind, &sample);
            let same = |(name, labels, _): &Sample| (name, labels) == (&sample.0, &sample.1);
            assert!(!samples.iter().any(same), "told twice: {line}");
            samples.push(sample);
        }
    }
    check_histograms(&samples);
    samples
}

fn check_name(family: &str, kind: &str, (name, labels, value): &Sample) {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(name.chars().all(valid) && !name.starts_with(|c: char| c.is_ascii_digit()));
    assert!(
        labels
            .keys()
            .all(|label| !label.is_empty() && label.chars().all(valid))
    );
    assert!(*value >= 0.0, "{name} {value}");
    match kind {
        "histogram" => {
            let part = name.strip_prefix(family).unwrap();
            assert!(["_bucket", "_sum", "_count"].contains(&part), "{name}");
            assert_eq!(labels.contains_key("le"), part == "_bucket", "{name}");
        }
        "counter" => assert!(name == family && name.ends_with("_total"), "{name}"),
        _ => assert!(name == family && !name.ends_with("_total"), "{name}"),
    }
}

/// Buckets do not fall, and the last holds all.
fn check_histograms(samples: &[Sample]) {
    for (name, labels, count) in samples {
        let Some(base) = name.strip_suffix("_count") else {
            continue;
        };
        let bucket = format!("{base}_bucket");
        let mut before = (f64::NEG_INFINITY, 0.0);
        for (name, own, value) in samples {
            let mut own = own.clone();
            let bound = own.remove("le");
            if *name != bucket || own != *labels {
                continue;
            }
            let bound: f64 = bound.unwrap().replace("+Inf", "inf").parse().unwrap();
            assert!(bound > before.0 && *value >= before.1, "{name}");
            before = (bound, *value);
        }
        assert_eq!(before, (f64::INFINITY, *count), "{name}");
    }
}

fn parse_sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).expect("a line without a value");
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label without a value");
            let (value, after) = parse_value(after);
            assert!(labels.insert(label.to_owned(), value).is_none());
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => {
                    rest = after.strip_prefix('}').expect("labels that do not end");
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("no space before the value");
    (name.to_owned(), labels, value.parse().unwrap())
}

/// A label's value up to its quote, and what is after it.
fn parse_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return (value, &text[place + 1..]),
            '\\' => match chars.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                other => panic!("not an escape: {other:?}"),
            },
            other => value.push(other),
        }
    }
    panic!("a value that does not end: {text}");
}

/// Statistics with one app, one pool and one target of these names.
fn counted(app: &str, pool: &str, target: &str) -> Statistics {
    let mut latency = Histogram::default();
    for micros in [100, 255, 256, 1_000, 70_000_000] {
        latency.record(micros);
    }
    let targets = TargetStatistics {
        requests: 8,
        sick: true,
        ..TargetStatistics::default()
    };
    let counts = PoolStatistics {
        succeeded: 5,
        failed: 2,
        tunnels_open: 3,
        latency_micros: 70_001_611,
        latency: latency.clone(),
        targets: BTreeMap::from([(target.to_owned(), targets)]),
        ..PoolStatistics::default()
    };
    let mirror = MirrorStatistics {
        copied: 4,
        same_status: 3,
        latency,
        ..MirrorStatistics::default()
    };
    let park = ParkStatistics {
        waiting: 6,
        left: 1,
        ..ParkStatistics::default()
    };
    Statistics {
        instance: "a".to_owned(),
        apps: BTreeMap::from([(app.to_owned(), BTreeMap::from([(pool.to_owned(), counts)]))]),
        proxy: ProxyStatistics {
            generation: 9,
            uptime_ms: 61_500,
            refused: BTreeMap::from([("host".to_owned(), 2)]),
            parks: BTreeMap::from([(app.to_owned(), park)]),
            mirrors: BTreeMap::from([(app.to_owned(), mirror)]),
            ..ProxyStatistics::default()
        },
    }
}

/// The value of a line, or none where there is no such line.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|&(label, value)| (label.to_owned(), value.to_owned()))
        .collect();
    let name = format!("cutover_proxy_{name}");
    let mut found = samples
        .iter()
        .filter(|(n, l, _)| *n == name && *l == labels);
    found.next().map(|&(_, _, value)| value)
}

#[test]
fn every_count_has_a_line() {
    let samples = parse(&render(&counted("shop", "v1", "v1-0")));
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(value(&samples, name, labels), Some(expected), "{name}");
    };
    let (app, pool, target) = (("app", "shop"), ("pool", "v1"), ("target", "v1-0"));
    check(
        "requests_total",
        &[app, pool, ("outcome", "succeeded")],
        5.0,
    );
    check("requests_total", &[app, pool, ("outcome", "failed")], 2.0);
    check("open", &[app, pool, ("kind", "tunnel")], 3.0);
    check("target_requests_total", &[app, pool, target], 8.0);
    check("target_sick", &[app, pool, target], 1.0);
    check("target_draining", &[app, pool, target], 0.0);
    check("parked", &[app], 6.0);
    check("parked_requests_total", &[app, ("outcome", "left")], 1.0);
    let same = [app, ("part", "status"), ("result", "same")];
    check("mirror_compared_total", &same, 3.0);
    check("requests_refused_total", &[("kind", "host")], 2.0);
    check("table_generation", &[], 9.0);
    check("uptime_seconds", &[], 61.5);
}

#[test]
fn what_is_below_a_bound_is_counted_and_not_estimated() {
    let samples = parse(&render(&counted("shop", "v1", "v1-0")));
    let labels = [("app", "shop"), ("pool", "v1")];
    let check = |bound: &str, expected: f64| {
        let labels = [&labels[..], &[("le", bound)]].concat();
        let found = value(&samples, "latency_seconds_bucket", &labels);
        assert_eq!(found, Some(expected), "{bound}");
    };
    check("0.000256", 2.0);
    check("0.000512", 3.0);
    check("0.001024", 4.0);
    check("67.108864", 4.0);
    check("+Inf", 5.0);
    assert_eq!(
        value(&samples, "latency_seconds_sum", &labels),
        Some(70.001_611)
    );
    assert_eq!(value(&samples, "latency_seconds_count", &labels), Some(5.0));
}

#[test]
fn nothing_counted_is_a_whole_text_too() {
    let samples = parse(&render(&Statistics::default()));
    assert_eq!(value(&samples, "table_generation", &[]), Some(0.0));
}

proptest! {
    #[test]
    fn any_name_reads_back_as_it_was(
        app in "(?s).{0,20}",
        pool in "[\\\\\"\n\r{},= a]{0,12}",
        target in any::<String>(),
    ) {
        let samples = parse(&render(&counted(&app, &pool, &target)));
        let labels = [("app", app.as_str()), ("pool", &pool), ("target", &target)];
        prop_assert_eq!(value(&samples, "target_requests_total", &labels), Some(8.0));
    }

    #[test]
    fn buckets_never_fall_whatever_was_counted(
        values in prop::collection::vec(prop_oneof![0_u64..1_000_000, any::<u64>()], 0..50),
    ) {
        let mut statistics = counted("shop", "v1", "v1-0");
        let pools = statistics.apps.get_mut("shop").unwrap();
        let latency = &mut pools.get_mut("v1").unwrap().latency;
        *latency = Histogram::default();
        values.iter().for_each(|&value| latency.record(value));
        let samples = parse(&render(&statistics));
        for power in BOUNDS {
            let bound = Seconds(1 << power).to_string();
            let labels = [("app", "shop"), ("pool", "v1"), ("le", bound.as_str())];
            let below = values.iter().filter(|&&value| value < 1 << power).count();
            let told = value(&samples, "latency_seconds_bucket", &labels);
            prop_assert_eq!(told, Some(below as f64));
        }
    }
}
