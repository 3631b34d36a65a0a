//! The event stream of a stand-in deploy, in pieces that end anywhere.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use cutover_plan::id::DeployId;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::Agent;

/// The time from one event to the next.
pub(crate) const PACE: Duration = Duration::from_millis(15);

/// The events after a number, and the view; cut off after `left` events.
pub(crate) fn events(
    agent: Agent,
    deploy: DeployId,
    after: u64,
    left: usize,
) -> UnsyncBoxBody<Bytes, io::Error> {
    let begun = Some((agent, deploy, after, left));
    let told = stream::unfold(begun, |at| async move {
        let (agent, id, after, left) = at?;
        if left == 0 {
            // What was sent before shall arrive before the end.
            tokio::time::sleep(PACE).await;
            return Some((Err(io::ErrorKind::ConnectionAborted.into()), None));
        }
        let (text, next) = loop {
            let deploy = agent.state().deploys[&id].clone();
            if let Some(told) = deploy.told.iter().find(|told| told.seq > after) {
                let data = serde_json::to_string(told).unwrap();
                let text = format!(": alive\nid: {}\nevent: deploy\ndata: {data}\n\n", told.seq);
                break (text, Some((agent, id, told.seq, left - 1)));
            }
            if deploy.view.outcome.is_some() {
                let data = serde_json::to_string(&deploy.view).unwrap();
                break (format!("event: view\ndata: {data}\n\n"), None);
            }
            tokio::time::sleep(PACE).await;
        };
        // In pieces that end anywhere, as a network cuts them.
        let pieces: Vec<_> = text
            .as_bytes()
            .chunks(7)
            .map(Bytes::copy_from_slice)
            .collect();
        Some((Ok(pieces), next))
    });
    let frames = futures_util::StreamExt::flat_map(told, |told: io::Result<Vec<Bytes>>| {
        let frames: Vec<_> = match told {
            Ok(pieces) => pieces
                .into_iter()
                .map(|piece| Ok(Frame::data(piece)))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(frames)
    });
    StreamBody::new(frames).boxed_unsync()
}
