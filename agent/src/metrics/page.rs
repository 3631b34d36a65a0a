//! The text that Prometheus reads, line by line. It does no IO.

use std::fmt::{Display, Write as _};

/// Begins every name.
const PREFIX: &str = "cutover_agent";

/// What a family of figures is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// What the lines of a name mean; stands before them.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {PREFIX}_{name} {help}");
        let _ = writeln!(self.0, "# TYPE {PREFIX}_{name} {kind}");
    }

    /// One figure.
    pub(super) fn line(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let _ = write!(self.0, "{PREFIX}_{name}");
        let mut open = '{';
        for (label, value) in labels {
            // Values are words of ours and names of apps: nothing to escape.
            let _ = write!(self.0, "{open}{label}=\"{value}\"");
            open = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// A family of one figure.
    pub(super) fn alone(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}
