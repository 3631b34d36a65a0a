//! What receivers read.

use cutover_plan::outcome::Outcome;
use serde::Serialize;

use crate::letter::Notice;

/// Slack cuts longer texts; a reason of an app may be long.
const MAX_TEXT: usize = 2_000;

/// The word for what happened, as the names of events of Standard Webhooks are.
const TYPE: &str = "deploy.ended";

/// The body for a webhook.
#[derive(Serialize)]
struct Webhook<'a> {
    r#type: &'static str,
    timestamp: jiff::Timestamp,
    deploy: &'a str,
    app: &'a str,
    kind: cutover_plan::plan::Kind,
    outcome: &'static str,
    reason: Option<&'a str>,
    release: Option<u32>,
    image: Option<&'a str>,
    url: Option<&'a str>,
    run_url: Option<&'a str>,
    text: &'a str,
}

pub(super) fn webhook(notice: &Notice) -> Vec<u8> {
    json(&Webhook {
        r#type: TYPE,
        timestamp: notice.at,
        deploy: notice.deploy.as_str(),
        app: notice.app.as_str(),
        kind: notice.kind,
        outcome: notice.outcome.as_str(),
        reason: notice.reason.as_deref(),
        release: notice.release.map(|number| number.0),
        image: notice.image.as_deref(),
        url: notice.url.as_deref(),
        run_url: notice.run_url.as_deref(),
        text: &notice.text,
    })
}

/// The body for Slack: one text, in which nothing that others wrote is markup.
#[derive(Serialize)]
struct Slack {
    text: String,
}

pub(super) fn slack(notice: &Notice) -> Vec<u8> {
    let mark = match notice.outcome {
        Outcome::Promoted | Outcome::Shadowed => "✅",
        Outcome::Superseded | Outcome::Aborted | Outcome::NoVerdict => "⚠️",
        Outcome::Failed | Outcome::RolledBack => "❌",
    };
    let text = crate::texts::cut(&notice.text, MAX_TEXT);
    let mut text = format!("{mark} {}", escaped(&text));
    for (name, url) in [("open", &notice.url), ("run", &notice.run_url)] {
        if let Some(url) = url {
            text.push_str(&format!(" <{}|{name}>", link(url)));
        }
    }
    json(&Slack { text })
}

/// The three signs that Slack reads as markup or as a mention.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// An address within a link: it must not end it.
fn link(url: &str) -> String {
    escaped(url).replace('|', "%7C")
}

fn json(body: &impl Serialize) -> Vec<u8> {
    // Keys are texts and nothing in it can fail.
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_plan::id::{DeployId, ReleaseNumber};
    use cutover_plan::plan::Kind;
    use serde_json::{Value, json};

    fn notice() -> Notice {
        Notice {
            receiver: "slack /s".to_owned(),
            deploy: DeployId::new(1, [1; 10]),
            app: "shop".parse().unwrap(),
            kind: Kind::Deploy,
            outcome: Outcome::RolledBack,
            release: Some(ReleaseNumber(8)),
            image: Some("ghcr.io/acme/shop@sha256:0".to_owned()),
            reason: Some("<!channel> & more".to_owned()),
            text: "shop: v8 was taken back: <!channel> & more".to_owned(),
            url: Some("http://shop.example.com".to_owned()),
            run_url: Some("https://e.com/a|b>c".to_owned()),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn nothing_that_others_wrote_is_markup_for_slack() {
        let body: Value = serde_json::from_slice(&slack(&notice())).unwrap();
        let text = "❌ shop: v8 was taken back: &lt;!channel&gt; &amp; more \
                    <http://shop.example.com|open> <https://e.com/a%7Cb&gt;c|run>";
        assert_eq!(body, json!({ "text": text }));
        let mut long = notice();
        long.text = "x".repeat(10_000);
        let body: Value = serde_json::from_slice(&slack(&long)).unwrap();
        assert!(body["text"].as_str().unwrap().chars().count() < 2_200);
    }

    #[test]
    fn a_webhook_gets_every_part_by_its_name() {
        let body: Value = serde_json::from_slice(&webhook(&notice())).unwrap();
        let expected = json!({
            "type": "deploy.ended",
            "timestamp": "1970-01-01T00:00:00Z",
            "deploy": DeployId::new(1, [1; 10]).as_str(),
            "app": "shop",
            "kind": "deploy",
            "outcome": "rolled_back",
            "reason": "<!channel> & more",
            "release": 8,
            "image": "ghcr.io/acme/shop@sha256:0",
            "url": "http://shop.example.com",
            "run_url": "https://e.com/a|b>c",
            "text": "shop: v8 was taken back: <!channel> & more",
        });
        assert_eq!(body, expected);
    }
}
