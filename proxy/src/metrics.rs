//! Statistics as a text that Prometheus reads (its text format 0.0.4).
//!
//! A figure that is not known is not told, and none is made up: the bounds of
//! latencies are those of our buckets, so what is below each is counted and not
//! estimated. It reads no clock and does no IO.

use std::fmt::Write as _;
use std::iter::once;

use cutover_wire::statistics::{
    Histogram, MirrorStatistics, ParkStatistics, PoolStatistics, ProxyStatistics, Statistics,
    TargetStatistics,
};

/// The type of this text, for whoever asks over HTTP.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The powers of two of microseconds that are told as bounds of latencies: from
/// a quarter of a millisecond, which a target beside us may need, to a little over
/// a minute, which is the default bound of an answer.
const BOUNDS: std::ops::RangeInclusive<u32> = 8..=26;

/// The whole text.
pub(crate) fn render(statistics: &Statistics) -> String {
    let mut page = Page::default();
    page.process(&statistics.proxy);
    page.pools(statistics);
    page.targets(statistics);
    page.parks(&statistics.proxy);
    page.mirrors(&statistics.proxy);
    page.certificates(&statistics.proxy);
    page.0
}

/// What a family of figures is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
struct Page(String);

impl Page {
    fn process(&mut self, proxy: &ProxyStatistics) {
        use Kind::{Counter, Gauge};
        self.family("build_info", Gauge, "The version of the program.");
        let version = env!("CARGO_PKG_VERSION");
        self.line("build_info", &[("version", version)], 1);
        let seconds = Seconds(u128::from(proxy.uptime_ms) * 1_000);
        let help = "How long the process has run.";
        self.family("uptime_seconds", Gauge, help);
        self.line("uptime_seconds", &[], seconds);
        let alone = [
            (
                "table_generation",
                Gauge,
                "The generation of the table in force.",
                proxy.generation,
            ),
            (
                "connections_open",
                Gauge,
                "Client connections that are open.",
                proxy.connections_open,
            ),
            (
                "connections_accepted_total",
                Counter,
                "Client connections that were taken.",
                proxy.connections_accepted,
            ),
            (
                "connections_refused_total",
                Counter,
                "Client connections closed at once because their address had too many.",
                proxy.connections_refused,
            ),
            (
                "tls_handshakes_failed_total",
                Counter,
                "Client connections that did not come to speak TLS.",
                proxy.handshakes_failed,
            ),
            (
                "requests_unrouted_total",
                Counter,
                "Requests that no app takes.",
                proxy.unrouted,
            ),
            (
                "requests_unserved_total",
                Counter,
                "Requests of an app that none of its targets could take.",
                proxy.unserved,
            ),
            (
                "requests_repeated_total",
                Counter,
                "Repeats of requests, of all apps together.",
                proxy.retries,
            ),
            (
                "access_log_lines_dropped_total",
                Counter,
                "Lines of the access log that were not written.",
                proxy.log_lines_dropped,
            ),
        ];
        for (name, kind, help, value) in alone {
            self.family(name, kind, help);
            self.line(name, &[], value);
        }
        let name = "requests_refused_total";
        let help = "Requests refused for their form, by the kind of the fault.";
        self.family(name, Counter, help);
        for (kind, &count) in &proxy.refused {
            self.line(name, &[("kind", kind)], count);
        }
    }

    fn pools(&mut self, statistics: &Statistics) {
        type Read = fn(&PoolStatistics) -> u64;
        let outcomes: [(&str, Read); 5] = [
            ("succeeded", |pool| pool.succeeded),
            ("client_error", |pool| pool.client_errors),
            ("server_error", |pool| pool.server_errors),
            ("failed", |pool| pool.failed),
            ("abandoned", |pool| pool.abandoned),
        ];
        let help = "Requests that ended, by how.";
        self.family("requests_total", Kind::Counter, help);
        for (app, name, pool) in pools(statistics) {
            for (outcome, read) in outcomes {
                let labels = [("app", app), ("pool", name), ("outcome", outcome)];
                self.line("requests_total", &labels, read(pool));
            }
        }
        let help = "Repeats of requests, which are sent again where that is safe.";
        self.family("retries_total", Kind::Counter, help);
        for (app, name, pool) in pools(statistics) {
            let labels = [("app", app), ("pool", name)];
            self.line("retries_total", &labels, pool.retries);
        }
        let open: [(&str, Read); 3] = [
            ("request", |pool| pool.requests_open),
            ("stream", |pool| pool.streams_open),
            ("tunnel", |pool| pool.tunnels_open),
        ];
        let help = "What is open, by what it is.";
        self.family("open", Kind::Gauge, help);
        for (app, name, pool) in pools(statistics) {
            for (kind, read) in open {
                let labels = [("app", app), ("pool", name), ("kind", kind)];
                self.line("open", &labels, read(pool));
            }
        }
        let help = "Time from the head of a request to the head of its answer.";
        self.family("latency_seconds", Kind::Histogram, help);
        for (app, name, pool) in pools(statistics) {
            let labels = [("app", app), ("pool", name)];
            let sum = pool.latency_micros;
            self.histogram("latency_seconds", &labels, &pool.latency, sum);
        }
    }

    fn targets(&mut self, statistics: &Statistics) {
        type Read = fn(&TargetStatistics) -> u64;
        let targets = || {
            pools(statistics).flat_map(|(app, pool, counts)| {
                let targets = counts.targets.iter();
                targets.map(move |(id, target)| {
                    let labels = [("app", app), ("pool", pool), ("target", id.as_str())];
                    (labels, target)
                })
            })
        };
        let open: [(&str, Read); 3] = [
            ("request", |target| target.requests_open),
            ("stream", |target| target.streams_open),
            ("tunnel", |target| target.tunnels_open),
        ];
        let help = "What is open at a target, by what it is.";
        self.family("target_open", Kind::Gauge, help);
        for ([app, pool, id], target) in targets() {
            for (kind, read) in open {
                let labels = [app, pool, id, ("kind", kind)];
                self.line("target_open", &labels, read(target));
            }
        }
        let alone: [(&str, Kind, &str, Read); 5] = [
            (
                "target_requests_total",
                Kind::Counter,
                "Requests that were bound to a target, repeats included.",
                |target| target.requests,
            ),
            (
                "target_connect_failures_total",
                Kind::Counter,
                "Connections to a target that could not be made.",
                |target| target.connect_failures,
            ),
            (
                "target_draining",
                Kind::Gauge,
                "Whether a target is given no new request because it drains.",
                |target| target.draining.into(),
            ),
            (
                "target_ejected",
                Kind::Gauge,
                "Whether a target is passed over because it refused connections.",
                |target| target.ejected.into(),
            ),
            (
                "target_sick",
                Kind::Gauge,
                "Whether a target is passed over because of its health.",
                |target| target.sick.into(),
            ),
        ];
        for (name, kind, help, read) in alone {
            self.family(name, kind, help);
            for (labels, target) in targets() {
                self.line(name, &labels, read(target));
            }
        }
    }

    fn parks(&mut self, proxy: &ProxyStatistics) {
        type Read = fn(&ParkStatistics) -> u64;
        let held: [(&str, &str, Read); 2] = [
            ("parked", "Requests that are held.", |park| park.waiting),
            (
                "parked_bytes",
                "Bytes of the bodies of requests that are held.",
                |park| park.bytes,
            ),
        ];
        for (name, help, read) in held {
            self.family(name, Kind::Gauge, help);
            for (app, park) in &proxy.parks {
                self.line(name, &[("app", app)], read(park));
            }
        }
        let ways: [(&str, Read); 4] = [
            ("released", |park| park.released),
            ("overflowed", |park| park.overflowed),
            ("timed_out", |park| park.timed_out),
            ("left", |park| park.left),
        ];
        let help = "Requests of parked apps, by what became of them.";
        self.family("parked_requests_total", Kind::Counter, help);
        for (app, park) in &proxy.parks {
            for (outcome, read) in ways {
                let labels = [("app", app.as_str()), ("outcome", outcome)];
                self.line("parked_requests_total", &labels, read(park));
            }
        }
    }

    fn certificates(&mut self, proxy: &ProxyStatistics) {
        let help = "When the certificate of a name expires, in seconds since 1970.";
        let name = "certificate_expiry_timestamp_seconds";
        self.family(name, Kind::Gauge, help);
        for (host, until) in &proxy.certificates {
            self.line(name, &[("name", host)], until);
        }
    }

    fn mirrors(&mut self, proxy: &ProxyStatistics) {
        type Read = fn(&MirrorStatistics) -> u64;
        let totals: [(&str, &str, Read); 3] = [
            (
                "mirror_copied_total",
                "Copies of requests that were sent.",
                |mirror| mirror.copied,
            ),
            (
                "mirror_dropped_total",
                "Copies of requests that were not made for want of a place.",
                |mirror| mirror.dropped,
            ),
            (
                "mirror_failed_total",
                "Copies of requests that got no whole answer.",
                |mirror| mirror.failed,
            ),
        ];
        for (name, help, read) in totals {
            self.family(name, Kind::Counter, help);
            for (app, mirror) in &proxy.mirrors {
                self.line(name, &[("app", app)], read(mirror));
            }
        }
        let compared: [(&str, &str, Read); 4] = [
            ("status", "same", |mirror| mirror.same_status),
            ("status", "other", |mirror| mirror.other_status),
            ("body", "same", |mirror| mirror.same_body),
            ("body", "other", |mirror| mirror.other_body),
        ];
        let help = "Answers to copies, by what was compared and how it came out.";
        self.family("mirror_compared_total", Kind::Counter, help);
        for (app, mirror) in &proxy.mirrors {
            for (part, result, read) in compared {
                let labels = [("app", app.as_str()), ("part", part), ("result", result)];
                self.line("mirror_compared_total", &labels, read(mirror));
            }
        }
        let name = "mirror_latency_seconds";
        let help = "Time to the head of the answer, of copies and of their requests.";
        self.family(name, Kind::Histogram, help);
        for (app, mirror) in &proxy.mirrors {
            let labels = |side| [("app", app.as_str()), ("side", side)];
            let copies = (&mirror.latency, mirror.latency_micros);
            let primary = (&mirror.primary_latency, mirror.primary_latency_micros);
            for (side, (latency, sum)) in [("copy", copies), ("primary", primary)] {
                self.histogram(name, &labels(side), latency, sum);
            }
        }
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP cutover_proxy_{name} {help}");
        let _ = writeln!(self.0, "# TYPE cutover_proxy_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        let _ = write!(self.0, "cutover_proxy_{name}");
        for (place, (label, value)) in labels.iter().enumerate() {
            self.0.push(if place == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            escape(value, &mut self.0);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, counted: &Histogram, micros: u64) {
        let all = counted.count();
        let bounds = BOUNDS.map(|power| {
            // A bucket ends before each power of two, so nothing is split.
            let bound = 1_u64 << power;
            let below = all - counted.above(bound - 1);
            (Seconds(u128::from(bound)).to_string(), below)
        });
        let bucket = format!("{name}_bucket");
        for (bound, below) in bounds.chain(once(("+Inf".to_owned(), all))) {
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain(once(("le", bound.as_str())))
                .collect();
            self.line(&bucket, &labels, below);
        }
        self.line(&format!("{name}_sum"), labels, Seconds(u128::from(micros)));
        self.line(&format!("{name}_count"), labels, all);
    }
}

/// Microseconds that are told in seconds.
#[derive(Clone, Copy)]
struct Seconds(u128);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "{whole}.{rest:06}")
    }
}

fn pools(statistics: &Statistics) -> impl Iterator<Item = (&str, &str, &PoolStatistics)> {
    statistics.apps.iter().flat_map(|(app, pools)| {
        let pools = pools.iter();
        pools.map(move |(name, pool)| (app.as_str(), name.as_str(), pool))
    })
}

/// A label's value with what would end it early written otherwise.
fn escape(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
