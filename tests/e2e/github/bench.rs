//! One agent's outbox and client, beside one model of GitHub.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cutover_agent::clock::Clock;
use cutover_agent::forge::{DeploymentState, Message};
use cutover_agent::github::{Credentials, Github, Options};
use cutover_agent::journal::{Journal, Record as _};
use cutover_agent::letter::Letter;
use cutover_agent::reporter;
use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::plan::Kind;
use cutover_tests::github::GithubModel;
use cutover_tests::wait::eventually;
use cutover_wire::request::Source;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const SHA: &str = "a84d88e7554fc1fa21bcbc4efae3c782a70d2b9d";
pub(crate) const REPOSITORY: &str = "acme/shop";
pub(crate) const RUN: &str = "https://github.com/acme/shop/actions/runs/1";

/// Long beside what a test waits for, short beside a person's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) model: GithubModel,
    pub(crate) journal: Journal,
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let model = GithubModel::start(&[REPOSITORY, "acme/other"])
            .await
            .unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(
            folder.path().join("token"),
            format!("{}\n", GithubModel::TOKEN),
        )
        .unwrap();
        Self {
            model,
            journal: Journal::in_memory().unwrap(),
            folder,
        }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// The client as the agent makes it, with short time-outs.
    pub(crate) fn github(&self) -> Github {
        self.github_with(Credentials::Token {
            file: self.token_file(),
        })
    }

    pub(crate) fn github_with(&self, credentials: Credentials) -> Github {
        let options = Options {
            api_url: self.model.url(),
            read_timeout: Duration::from_millis(150),
            settle: Duration::ZERO,
            ..Options::new(credentials)
        };
        Github::new(&options, wall()).unwrap()
    }

    /// Starts to deliver the outbox; aborting the task is a crash.
    pub(crate) fn report(&self) -> JoinHandle<()> {
        let journal = self.journal.clone();
        let github = self.github();
        tokio::spawn(async move {
            let forever = std::future::pending();
            reporter::run(journal, github, wall(), impatient(), forever)
                .await
                .unwrap();
        })
    }

    /// Puts messages into the outbox, as the events of their deploy would.
    pub(crate) fn tell(&self, messages: &[Message]) {
        let deploy = &messages[0].deploy;
        let app = AppName::parse(&format!("app-{}", &deploy.as_str()[8..16])).unwrap();
        let event = Event::Accepted {
            app,
            kind: Kind::Deploy,
            image: None,
            by: None,
            window_override: None,
        };
        let letters: Vec<_> = messages.iter().cloned().map(Letter::from).collect();
        let accepted = self.journal.accept(
            Some(deploy.as_str()),
            deploy,
            Timestamp::now(),
            &event,
            &Source::default(),
            &letters,
        );
        accepted.unwrap();
    }

    pub(crate) async fn delivered(&self) {
        let all = async || self.journal.undelivered().unwrap() == 0;
        eventually("every message is settled", DEADLINE, all)
            .await
            .unwrap();
    }

    /// Nothing was done that a caller should not do.
    #[track_caller]
    pub(crate) fn clean(&self) {
        assert_eq!(self.model.violations(), Vec::<String>::new());
    }

    /// The messages are what people saw: each once, in order.
    #[track_caller]
    pub(crate) fn told_once_in_order(&self, messages: &[Message]) {
        self.clean();
        let wanted: Vec<_> = messages
            .iter()
            .map(|one| (word(one.state), one.description.clone()))
            .collect();
        let told: Vec<_> = self.model.history(&messages[0].environment);
        let told: Vec<_> = told
            .into_iter()
            .filter(|(_, text)| !text.starts_with("Replaced"))
            .collect();
        assert_eq!(told, wanted);
    }
}

pub(crate) fn wall() -> Clock {
    Arc::new(Timestamp::now)
}

/// The waits of an outage, a hundred times shorter.
pub(crate) fn impatient() -> reporter::Options {
    reporter::Options {
        timeout: Duration::from_secs(2),
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(80),
        ..reporter::Options::default()
    }
}

pub(crate) fn word(state: DeploymentState) -> String {
    serde_json::to_value(state)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

pub(crate) fn deploy(number: u8) -> DeployId {
    // The middle letters differ too, so that each deploy can have an app of its own.
    DeployId::new(u64::from(number) * 1_000, [number; 10])
}

pub(crate) fn message(number: u8, state: DeploymentState, description: &str) -> Message {
    Message {
        deploy: deploy(number),
        repository: REPOSITORY.to_owned(),
        sha: SHA.to_owned(),
        environment: "production".to_owned(),
        state,
        description: description.to_owned(),
        environment_url: Some("https://shop.example.com".to_owned()),
        log_url: Some(RUN.to_owned()),
        at: Timestamp::now(),
    }
}

/// The statuses of a deploy that goes well.
pub(crate) fn story(number: u8) -> Vec<Message> {
    use DeploymentState::{InProgress, Queued, Success};
    vec![
        message(number, Queued, "Waiting for the deploy before it"),
        message(number, InProgress, "Starting the new release"),
        message(
            number,
            InProgress,
            "Watching the new release: 5 % of requests",
        ),
        message(number, Success, "Release 7 serves"),
    ]
}
