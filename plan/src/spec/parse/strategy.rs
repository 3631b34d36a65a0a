//! `[canary]`, `[rolling]`, `[in_place]`, `[shadow]` and `[preview]`: how a new
//! release takes over, and who sees it first.

use std::time::Duration;

use super::bounds::{BAKE, MINUTE, PARK, PARKED, REPLICAS, WATCH, seconds};
use super::{clients, forms};
use crate::spec::reader::{Fault, Table, Value};
use crate::spec::{
    Affinity, CanarySpec, InPlaceSpec, PreviewSpec, Rate, RollingSpec, ShadowSpec, Then, Weight,
};

/// More stages than anyone waits for.
const STAGES: usize = 20;

pub(super) fn canary(table: &mut Table<'_>) -> Option<CanarySpec> {
    let default = [500, 2_500, 5_000, 10_000].map(Weight).to_vec();
    let weights = table.or_default("weights", default, weights);
    let bake = table.or_default("bake", 2 * MINUTE, |v| v.duration(WATCH));
    let affinity = table.or_default("affinity", Affinity::Cookie, |v| v.parse(affinity));
    let new_sessions_only = table.or_default("new_sessions_only", false, Value::boolean);
    let rules = table.or_default("rules", Vec::new(), clients::rules);
    let canary = CanarySpec {
        weights: weights?,
        bake: bake?,
        affinity: affinity?,
        new_sessions_only: new_sessions_only?,
        rules: rules?,
    };
    let mut works = Some(());
    if canary.weights.first() == Some(&Weight(0)) && canary.rules.is_empty() {
        let fault = Fault::new("begins with 0, which nobody sees without a rule");
        let hint = "begin above 0, or say with [[canary.rules]] who sees it";
        works = table.fault("weights", fault.hint(hint));
    }
    if canary.new_sessions_only && canary.affinity == Affinity::None {
        let fault = Fault::new("needs an affinity: without one there are no sessions");
        let hint = "leave out affinity = \"none\"";
        works = table.fault("new_sessions_only", fault.hint(hint));
    }
    works.map(|()| canary)
}

fn weights(value: &Value<'_>) -> Option<Vec<Weight>> {
    let mut before = None;
    let weights = value.array(1..=STAGES, |item| {
        let weight = item.number(Weight::parse)?;
        match before.replace(weight) {
            Some(before) if weight <= before => item.fault("is not above the one before it"),
            _ => Some(weight),
        }
    })?;
    if weights.last() != Some(&Weight::FULL) {
        let fault = Fault::new("must end with 100: in the end everybody gets the new release");
        return value.fault(fault);
    }
    if weights.len() == 1 {
        let fault = Fault::new("has no stage below 100");
        let hint = "write [5, 25, 50, 100], or choose strategy = \"blue-green\"";
        return value.fault(fault.hint(hint));
    }
    Some(weights)
}

fn affinity(text: &str) -> Result<Affinity, Fault> {
    match text.split_once(':') {
        Some(("header", name)) => clients::header(name).map(Affinity::Header),
        _ => match text {
            "none" => Ok(Affinity::None),
            "cookie" => Ok(Affinity::Cookie),
            "address" => Ok(Affinity::Address),
            other => Err(Fault::not_one_of(
                other,
                &["none", "cookie", "address", "header:NAME"],
            )),
        },
    }
}

/// `replicas` is none where it was refused already.
pub(super) fn rolling(table: &mut Table<'_>, replicas: Option<u16>) -> Option<RollingSpec> {
    let batch = table.or_default("batch", 1, |v| {
        let batch = v.integer(REPLICAS)?;
        match replicas {
            Some(replicas) if batch > replicas => {
                let fault = Fault::new(format!("is more than the {replicas} of replicas"));
                v.fault(fault.hint("set replicas above the first [table], or a smaller batch"))
            }
            _ => Some(batch),
        }
    });
    let bake = table.or_default("bake", Duration::ZERO, |v| v.duration(BAKE));
    Some(RollingSpec {
        batch: batch?,
        bake: bake?,
    })
}

pub(super) fn in_place(table: &mut Table<'_>) -> Option<InPlaceSpec> {
    let park_requests = table.or_default("park_requests", 1_000, |v| v.integer(PARKED));
    let park_deadline = table.or_default("park_deadline", seconds(30), |v| v.duration(PARK));
    Some(InPlaceSpec {
        park_requests: park_requests?,
        park_deadline: park_deadline?,
    })
}

pub(super) fn shadow(table: &mut Table<'_>) -> Option<ShadowSpec> {
    let share = table.or_default("share", Rate(Rate::ONE), |v| {
        let share = v.rate()?;
        match share.0 {
            0 => v.fault("must be above 0%: without copies there is nothing to compare"),
            _ => Some(share),
        }
    });
    let window = table.or_default("window", 5 * MINUTE, |v| v.duration(WATCH));
    let then = table.or_default("then", Then::Continue, |v| {
        v.choice(&[("continue", Then::Continue), ("stop", Then::Stop)])
    });
    Some(ShadowSpec {
        share: share?,
        window: window?,
        then: then?,
    })
}

pub(super) fn preview(table: &mut Table<'_>) -> Option<PreviewSpec> {
    let header = table.or_default("header", "cutover-preview".to_owned(), |v| {
        v.parse(clients::own_header)
    });
    let secret_file = table.required("secret_file", "\"/etc/cutover/shop.preview\"", |v| {
        v.parse(forms::absolute_path)
    });
    Some(PreviewSpec {
        header: header?,
        secret_file: secret_file?,
    })
}
