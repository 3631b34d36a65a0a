//! The models of GitHub and of the disk.

use std::sync::atomic::{AtomicU32, Ordering};

use cutover_agent::forge::{DeliveryError, Forge, Message};
use cutover_agent::journal::{Acceptance, JournalError, Record};
use cutover_agent::letter::Letter;
use cutover_plan::event::Event;
use cutover_plan::id::DeployId;
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;

use super::{Sim, Trouble};
use crate::faults::Fault;

impl Forge for Sim {
    async fn deliver(&self, message: &Message, attempt: u32) -> Result<(), DeliveryError> {
        let name = format!("tell GitHub {:?}", message.state);
        // Made twice means that it is delivered once more, which looks first.
        let attempt = AtomicU32::new(attempt);
        let made = self.effect("github", name, |world| {
            if attempt.fetch_add(1, Ordering::Relaxed) == 1 || !world.told.contains(message) {
                world.told.push(message.clone());
            }
        });
        made.await.map_err(|trouble| match trouble {
            // GitHub refuses for good only what is malformed, which is another
            // test's business: here it comes back.
            Trouble::Refused | Trouble::Unreachable => DeliveryError::Later {
                reason: "502".to_owned(),
                after_seconds: None,
            },
        })
    }
}

impl Sim {
    /// The disk: a crash before a write, after it, or a write that fails ends
    /// the engine, which must not go on without its journal.
    fn write<A>(
        &self,
        name: String,
        write: impl Fn() -> Result<A, JournalError>,
    ) -> Result<A, JournalError> {
        let dead = || JournalError::Write {
            what: "anything",
            source: "the agent is dead".into(),
        };
        if self.state.lock().unwrap().dead {
            return Err(dead());
        }
        match self.next_fault("disk", &name) {
            Some(Fault::CrashBefore | Fault::Fail | Fault::Unavailable) => {
                self.die();
                Err(dead())
            }
            Some(Fault::CrashAfter | Fault::AnswerLost) => {
                let written = write();
                self.die();
                written.and(Err(dead()))
            }
            // An append is one transaction, which nothing makes twice.
            Some(Fault::Twice | Fault::Late | Fault::StandsStill | Fault::AnewProxy) | None => {
                write()
            }
        }
    }
}

impl Record for Sim {
    fn accept(
        &self,
        call: Option<&str>,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        source: &Source,
        messages: &[Letter],
    ) -> Result<Acceptance, JournalError> {
        self.write("write Accepted".to_owned(), || {
            self.journal
                .accept(call, deploy, at, event, source, messages)
        })
    }

    fn append(
        &self,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        let name = format!("write {}", cutover_agent::texts::told(event, None));
        self.write(name, || {
            self.journal.append(deploy, at, event, releases, messages)
        })
    }

    fn append_called(
        &self,
        call: &str,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        let name = format!("write {}", cutover_agent::texts::told(event, None));
        self.write(name, || {
            self.journal
                .append_called(call, deploy, at, event, releases, messages)
        })
    }
}
