use super::check;
use crate::outcome::Outcome;
use crate::spec::{NotifyKind, parse};

const BASE: &str = "image = 'ghcr.io/acme/shop'\ndomains = ['*']\nport = 80\n";

#[test]
fn receivers_are_told_of_every_end_unless_they_say_which() {
    let text = "[[notify]]\nkind = 'slack'\nurl_file = '/s'\n\
                [[notify]]\nkind = 'webhook'\nurl_file = '/w'\nsecret_file = '/k'\non = ['failed']\n";
    let spec = parse("shop.toml", "shop", &format!("{BASE}{text}")).unwrap();
    let [slack, webhook] = &spec.notify[..] else {
        panic!("{:?}", spec.notify);
    };
    assert_eq!(
        (slack.kind, &slack.on[..]),
        (NotifyKind::Slack, &Outcome::ALL[..])
    );
    assert_eq!(webhook.on, [Outcome::Failed]);
    assert_eq!(webhook.name(), "webhook /w");
}

#[test]
fn a_receiver_that_could_not_be_told_is_a_mistake() {
    let notify = |lines: &str| format!("[[notify]]\n{lines}");
    check(&notify("kind = 'slack'\nurl_file = '/s'"), &[]);
    check(
        &notify("kind = 'webhook'\nurl_file = '/s'"),
        &[
            "4:1: secret_file: is missing, which a webhook needs (hint: write what signs the messages into a file: openssl rand -base64 32)",
        ],
    );
    check(
        &notify("kind = 'slack'\nurl_file = '/s'\nsecret_file = '/k'"),
        &["7:15: secret_file \"/k\": is not for Slack, whose address alone is the secret"],
    );
    check(
        &notify("kind = 'slack'\nurl_file = '/s'\non = ['failed', 'failed']"),
        &["7:17: on \"failed\": is listed twice"],
    );
}
