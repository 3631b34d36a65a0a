//! Why a container can no longer answer.

use super::steps::Steps;
use crate::containers::{Container, ContainerState, Containers, KILLED, LastEnd};
use crate::traffic::Traffic;

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Why it does not run as it was started, in a sentence; none while it does.
    /// `restarts` is how often it had been started anew before. One that has
    /// ended and one that runs again are told alike: which of them is seen is chance.
    pub(super) async fn casualty(&self, container: &Container, restarts: u32) -> Option<String> {
        let name = &container.name;
        let again = container.restarts.saturating_sub(restarts);
        match &container.state {
            ContainerState::Exited {
                code,
                out_of_memory,
                error,
            } => {
                let mut end = LastEnd {
                    code: *code,
                    out_of_memory: *out_of_memory,
                };
                if end.code == KILLED && !end.out_of_memory {
                    // The engine may not have heard of the memory yet.
                    let known = self.drivers.containers.last_end(container).await;
                    end = known.ok().flatten().unwrap_or(end);
                }
                let cause = error.as_ref().map(|error| format!(": {error}"));
                Some(format!("{name} {}{}", told(end), cause.unwrap_or_default()))
            }
            ContainerState::Running { .. } | ContainerState::Starting if again > 0 => {
                let known = self.drivers.containers.last_end(container).await;
                // What is not known is no reason to hide the rest.
                let end = known.ok().flatten().map_or("exited".to_owned(), told);
                let times = match again {
                    1 => "once".to_owned(),
                    times => format!("{times} times"),
                };
                Some(format!("{name} {end} and was started anew {times}"))
            }
            ContainerState::Running { .. } | ContainerState::Starting => None,
        }
    }
}

fn told(end: LastEnd) -> String {
    let memory = if end.out_of_memory {
        ", out of memory"
    } else {
        ""
    };
    format!("exited with {}{memory}", end.code)
}
