//! What Cutover signs in with, and where it must never be seen.

use std::io::Write;
use std::sync::{Arc, Mutex};

use cutover_agent::forge::{DeliveryError, Forge as _};
use cutover_agent::github::{Credentials, Github, Options};
use cutover_tests::github::{AppKey, Fault, GithubModel};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::bench::{Bench, REPOSITORY, story, wall};

const APP: u64 = 7;

fn app(bench: &Bench, permissions: &[(&str, &str)]) -> Github {
    let key = AppKey::generate(APP).unwrap();
    bench.model.install_app(&key, permissions);
    let key_file = bench.folder.path().join("app.pem");
    std::fs::write(&key_file, &key.pem).unwrap();
    bench.github_with(Credentials::App { id: APP, key_file })
}

fn minted(bench: &Bench) -> usize {
    let calls = bench.model.calls();
    calls
        .iter()
        .filter(|call| call.path.ends_with("access_tokens"))
        .count()
}

#[tokio::test]
async fn an_app_reports_with_one_token_for_one_repository() {
    let bench = Bench::new().await;
    let github = app(&bench, &[("deployments", "write"), ("contents", "write")]);
    for one in story(1) {
        github.deliver(&one, 1).await.unwrap();
    }
    bench.told_once_in_order(&story(1));
    assert_eq!(minted(&bench), 1);
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_minted_anew() {
    let bench = Bench::new().await;
    let github = app(&bench, &[("deployments", "write")]);
    github.deliver(&story(1)[0], 1).await.unwrap();
    bench.model.revoke_minted();
    let refused = github.deliver(&story(1)[1], 1).await;
    assert!(
        matches!(refused, Err(DeliveryError::Later { .. })),
        "{refused:?}"
    );
    github.deliver(&story(1)[1], 2).await.unwrap();
    bench.told_once_in_order(&story(1)[..2]);
    assert_eq!(minted(&bench), 2);
}

#[tokio::test]
async fn an_app_without_the_permission_is_tried_ever_more_seldom() {
    let bench = Bench::new().await;
    let github = app(&bench, &[("contents", "read")]);
    for (attempt, seconds) in [(1, 60), (2, 120), (7, 3_600), (40, 3_600)] {
        let refused = github.deliver(&story(1)[0], attempt).await;
        let Err(DeliveryError::Later {
            reason,
            after_seconds,
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(after_seconds, Some(seconds));
        assert!(
            reason.contains("permissions requested are not granted"),
            "{reason}"
        );
    }
    bench.clean();
}

#[tokio::test]
async fn a_replaced_token_is_taken_up_without_a_restart() {
    let bench = Bench::new().await;
    let github = bench.github();
    github.deliver(&story(1)[0], 1).await.unwrap();
    bench
        .model
        .replace_token(GithubModel::TOKEN, "ghp_the_next_one");
    let refused = github.deliver(&story(1)[1], 1).await;
    assert!(
        matches!(
            refused,
            Err(DeliveryError::Later {
                after_seconds: Some(60),
                ..
            })
        ),
        "{refused:?}"
    );
    std::fs::write(bench.token_file(), "ghp_the_next_one").unwrap();
    github.deliver(&story(1)[1], 2).await.unwrap();
    bench.told_once_in_order(&story(1)[..2]);
}

#[tokio::test]
async fn a_missing_or_odd_file_is_named_and_tried_again() {
    let bench = Bench::new().await;
    for content in [
        None,
        Some(""),
        Some("two\nlines"),
        Some("bell\u{7}"),
        Some("ümlaut"),
    ] {
        let _ = std::fs::remove_file(bench.token_file());
        if let Some(content) = content {
            std::fs::write(bench.token_file(), content).unwrap();
        }
        let refused = bench.github().deliver(&story(1)[0], 1).await;
        let Err(DeliveryError::Later { reason, .. }) = refused else {
            panic!("{content:?}: {refused:?}");
        };
        assert!(reason.contains("/token "), "{reason}");
        assert!(
            content.is_none_or(|content| content.is_empty() || !reason.contains(content)),
            "{reason}"
        );
    }
    assert_eq!(bench.model.calls(), []);
}

#[tokio::test]
async fn a_credential_is_not_sent_in_the_clear() {
    let bench = Bench::new().await;
    let credentials = Credentials::Token {
        file: bench.token_file(),
    };
    for (url, good) in [
        ("https://api.github.com", true),
        ("https://ghe.example.com/api/v3", true),
        ("http://ghe.example.com/api/v3", false),
        ("ftp://ghe.example.com", false),
        ("ghe.example.com", false),
        ("", false),
    ] {
        let options = Options {
            api_url: url.to_owned(),
            ..Options::new(credentials.clone())
        };
        assert_eq!(Github::new(&options, wall()).is_ok(), good, "{url}");
    }
}

/// Everything that is logged, at every level, by every crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_credential_is_in_an_error_or_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let _guard = tracing_subscriber::registry()
        .with(everything)
        .set_default();

    let bench = Bench::new().await;
    let with_app = app(&bench, &[("deployments", "write")]);
    let faults = [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(422),
        Fault::Status(500),
        Fault::Cut,
        Fault::Lost,
        Fault::Silent,
        Fault::GatewayPage,
    ];
    let mut errors = String::new();
    for github in [&bench.github(), &with_app] {
        for (number, fault) in (1..).zip(&faults) {
            for skipped in 0..4 {
                let one = &story(10 * skipped + number)[0];
                let so_far = bench.model.calls().len() as u64;
                bench
                    .model
                    .fail_call(so_far + 1 + u64::from(skipped), fault.clone());
                if let Err(error) = github.deliver(one, 1).await {
                    errors.push_str(&format!("{error} {error:?}\n"));
                }
            }
        }
    }
    assert!(errors.contains(REPOSITORY), "{errors}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("hyper_util"),
        "the client's own log is not seen: {logged}"
    );
    let pem = std::fs::read_to_string(bench.folder.path().join("app.pem")).unwrap();
    for secret in [
        GithubModel::TOKEN,
        "ghs_minted",
        "Bearer",
        "eyJ",
        pem.lines().nth(3).unwrap(),
    ] {
        assert!(!errors.contains(secret), "{secret} in {errors}");
        assert!(!logged.contains(secret), "{secret} in the log");
    }
}
