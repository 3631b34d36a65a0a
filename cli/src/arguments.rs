//! What the command line understands. It parses into the domain's own types,
//! so that nothing is checked again; it reads no secret.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cutover_plan::id::{AppName, DeployId, ImageReference};
use cutover_wire::request::MAX_HISTORY;

use crate::duration;

/// What `--help` says after the options.
const STATUSES: &str = "\
Exit status:
  0  the release serves and has proved itself, or the question was answered
  1  the deploy failed: no user saw the release, or no better one was there
  2  the command was not understood
  3  the new release was bad, and the old one serves again
  4  the agent said no
  5  no agent answered, or the outcome is not known
  6  a newer deploy took this one's place
  7  the deploy was aborted
  8  there was too little data for a judgement";

/// Put a new container image into service without one dropped request.
#[derive(Debug, Parser)]
#[command(name = "cutover", version, after_help = STATUSES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How to tell what happens
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Write outputs, a summary and annotations for a workflow step
    #[arg(long, global = true, value_enum, default_value_t = Switch::Auto)]
    pub(crate) github: Switch,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to reach the agent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The agent's address, for example <https://deploy.example.com>
    ///
    /// A path before /v1 may be part of it, where a reverse proxy adds one.
    #[arg(long, global = true, env = "CUTOVER_URL")]
    pub(crate) url: Option<String>,
    /// The agent's socket on this host; needs no secret. Wins over --url
    ///
    /// Without --url it is /run/cutover/agent.sock, where that exists.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// A file with the secret that signs the calls
    ///
    /// Else CUTOVER_SECRET holds it. It is never an argument: those are
    /// visible to every process of the machine.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Allow http:// to another machine
    ///
    /// The signature still keeps strangers out, but everybody on the way can
    /// read what is deployed and use the deploy's token to abort it. Registry
    /// credentials are never sent this way.
    #[arg(long, global = true)]
    pub(crate) insecure_http: bool,
    /// How long a call is sent again when nobody answers
    ///
    /// The same call: it cannot deploy twice.
    #[arg(long, global = true, value_name = "DURATION", env = "CUTOVER_RETRY_FOR",
          default_value = "60s", value_parser = duration::parse)]
    pub(crate) retry_for: Duration,
}

/// How to tell what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one document, or one line for each event
    Json,
}

/// Whether to speak to a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// When GITHUB_ACTIONS is true
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring an image into service and follow it to the end
    ///
    /// Interrupted (Ctrl-C, a cancelled workflow), it asks the agent to abort,
    /// waits up to 5 seconds for the outcome and ends with 7, or with 5 when
    /// the agent could not be told. Use --detach to leave a deploy alone.
    #[command(after_help = "\
Registry credentials come from CUTOVER_REGISTRY_USERNAME and CUTOVER_REGISTRY_PASSWORD;
they are used for this pull and kept nowhere.

Examples:
  cutover deploy --app shop --image ghcr.io/acme/shop@sha256:4f5e…
  CUTOVER_SECRET=… cutover deploy --url https://deploy.example.com --app shop --image …
  cutover deploy --app shop --image … --format json | jq -c .told.text")]
    Deploy {
        /// The app
        #[arg(long)]
        app: AppName,
        /// The image, pinned: repository@sha256:…
        #[arg(long)]
        image: ImageReference,
        /// Deploy although a deploy window of the app is closed, and say why
        ///
        /// Who and why is kept with the deploy and shown where it is shown.
        #[arg(long, value_name = "WHY")]
        override_window: Option<String>,
        #[command(flatten)]
        following: Following,
    },
    /// Bring back the last release that proved itself
    #[command(after_help = "\
Example:
  cutover rollback --app shop")]
    Rollback {
        /// The app
        #[arg(long)]
        app: AppName,
        #[command(flatten)]
        following: Following,
    },
    /// Show what a deploy would do; nothing is touched
    #[command(after_help = "\
Examples:
  cutover plan --app shop --image ghcr.io/acme/shop@sha256:4f5e…
  cutover plan --app shop --rollback")]
    Plan {
        /// The app
        #[arg(long)]
        app: AppName,
        /// The image that would be deployed, pinned
        #[arg(
            long,
            required_unless_present = "rollback",
            conflicts_with = "rollback"
        )]
        image: Option<ImageReference>,
        /// Show a rollback instead
        #[arg(long)]
        rollback: bool,
    },
    /// Show what serves and what is being deployed
    #[command(after_help = "\
Example:
  cutover status --format json | jq '.[].serving.number'")]
    Status {
        /// One app; all of them when not given
        #[arg(long)]
        app: Option<AppName>,
    },
    /// Stop a deploy and wait until the release before it serves again
    #[command(after_help = "\
Examples:
  cutover abort --app shop
  cutover abort --deploy 01k9z3v5m8q2x7c4b6n1d0f5gh")]
    Abort {
        #[command(flatten)]
        which: Which,
        /// How long to wait for its end
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
        timeout: Duration,
    },
    /// Say yes to what a deploy waits for
    ///
    /// The deploy goes on. Ends with 4 when it waits for nobody.
    #[command(after_help = "\
Examples:
  cutover approve --app shop
  cutover approve --deploy 01k9z3v5m8q2x7c4b6n1d0f5gh")]
    Approve {
        #[command(flatten)]
        which: Which,
    },
    /// Say no to what a deploy waits for
    ///
    /// The deploy is taken back and ends as aborted. Ends with 4 when it waits
    /// for nobody; a deploy that waits for nobody is stopped with abort.
    #[command(after_help = "\
Example:
  cutover reject --app shop --why 'the banner is missing'")]
    Reject {
        #[command(flatten)]
        which: Which,
        /// Why, in a sentence that is kept and shown
        #[arg(long)]
        why: Option<String>,
    },
    /// Do not wait for the end of a watch or an approval
    ///
    /// What would have been judged counts as not judged. Ends with 4 when the
    /// deploy is in no watch and no approval.
    #[command(after_help = "\
Examples:
  cutover promote --app shop
  cutover promote --app shop --full")]
    Promote {
        #[command(flatten)]
        which: Which,
        /// Go to all users at once, and not to the next step only
        #[arg(long)]
        full: bool,
    },
    /// Show what was deployed, newest first
    #[command(after_help = "\
Examples:
  cutover history --app shop --limit 5
  cutover history --format json | jq -r '.[] | select(.outcome == \"failed\") | .reason'")]
    History {
        /// One app; all of them when not given
        #[arg(long)]
        app: Option<AppName>,
        /// How many, from 1 to 100; 20 when not given
        #[arg(long, value_name = "COUNT",
              value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HISTORY)))]
        limit: Option<u32>,
    },
    /// Check that the agent is reached, takes the signature and keeps the time
    #[command(after_help = "\
Example:
  CUTOVER_SECRET=… cutover verify --url https://deploy.example.com")]
    Verify,
}

/// Which deploy is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The deploy
    #[arg(long, value_name = "ID")]
    pub(crate) deploy: Option<DeployId>,
    /// The app whose deploy is under way
    #[arg(long)]
    pub(crate) app: Option<AppName>,
}

/// How long a deploy is followed.
#[derive(Debug, Args)]
pub(crate) struct Following {
    /// End as soon as the agent has taken the call
    #[arg(long)]
    pub(crate) detach: bool,
    /// How long to send and follow; a deploy that was taken goes on after it
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_secret_is_no_argument() {
        let command = Arguments::command();
        let all = command.get_subcommands().chain([&command]);
        let named = all.flat_map(clap::Command::get_arguments);
        let secret = |id: &str| id.contains("password") || id == "secret" || id == "username";
        assert_eq!(named.filter(|a| secret(a.get_id().as_str())).count(), 0);
    }
}
