//! `[[notify]]`, of an app's file and of the host's.

use super::forms;
use crate::outcome::Outcome;
use crate::spec::reader::{Fault, Table, Value};
use crate::spec::{NotifyKind, NotifySpec};

/// A message goes to each of them: a team's channel, a pager, a page.
const RECEIVERS: usize = 10;

/// Reads receivers, each of which has a file of its own.
pub fn notify(value: &Value<'_>) -> Option<Vec<NotifySpec>> {
    let mut seen = Vec::new();
    value.array(0..=RECEIVERS, |item| {
        let receiver = item.table(receiver)?;
        match seen.contains(&receiver.name()) {
            true => item.fault("names a receiver that is there already"),
            false => {
                seen.push(receiver.name());
                Some(receiver)
            }
        }
    })
}

fn receiver(table: &mut Table<'_>) -> Option<NotifySpec> {
    let kind = table.required("kind", "\"slack\"", |v| {
        v.choice(&[NotifyKind::Webhook, NotifyKind::Slack].map(|kind| (kind.as_str(), kind)))
    });
    let url_file = table.required("url_file", "\"/etc/cutover/slack.url\"", |v| {
        v.parse(forms::absolute_path)
    });
    let secret_file = table.optional("secret_file", |v| v.parse(forms::absolute_path));
    let on = table.or_default("on", Outcome::ALL.to_vec(), outcomes);
    let (kind, secret_file) = (kind?, secret_file?);
    match (kind, &secret_file) {
        (NotifyKind::Webhook, None) => {
            let hint = "write what signs the messages into a file: openssl rand -base64 32";
            let fault = Fault::new("is missing, which a webhook needs");
            let _: Option<()> = table.fault("secret_file", fault.hint(hint));
            return None;
        }
        (NotifyKind::Slack, Some(_)) => {
            let fault = "is not for Slack, whose address alone is the secret";
            let _: Option<()> = table.fault("secret_file", Fault::new(fault));
            return None;
        }
        (NotifyKind::Webhook, Some(_)) | (NotifyKind::Slack, None) => {}
    }
    Some(NotifySpec {
        kind,
        url_file: url_file?,
        secret_file,
        on: on?,
    })
}

fn outcomes(value: &Value<'_>) -> Option<Vec<Outcome>> {
    let mut seen = Vec::new();
    value.array(1..=Outcome::ALL.len(), |item| {
        let outcome = item.choice(&Outcome::ALL.map(|outcome| (outcome.as_str(), outcome)))?;
        match seen.contains(&outcome) {
            true => item.fault("is listed twice"),
            false => {
                seen.push(outcome);
                Some(outcome)
            }
        }
    })
}
