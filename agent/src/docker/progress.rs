//! How far a pull is, put together from the engine's news of single layers.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use cutover_plan::spec::Bytes;
use tokio::time::Instant;

/// From one sentence to the next at least: people read it, and it is stored.
const PAUSE: Duration = Duration::from_secs(1);

/// More layers than the engine allows an image to have.
const MOST_LAYERS: usize = 1000;

/// The state of a pull.
#[derive(Debug)]
pub(super) struct Progress {
    layers: BTreeMap<String, Layer>,
    next: Instant,
}

#[derive(Debug, Default)]
struct Layer {
    done: u64,
    total: u64,
    ready: bool,
}

impl Progress {
    /// Of a pull that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            layers: BTreeMap::new(),
            next: now,
        }
    }

    /// Takes news, and gives a sentence when it is time for one.
    pub(super) fn take(&mut self, news: CreateImageInfo, now: Instant) -> Option<String> {
        let (status, id) = (news.status?, news.id?);
        if self.layers.len() >= MOST_LAYERS && !self.layers.contains_key(&id) {
            return None;
        }
        match status.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.layers.entry(id).or_default();
            }
            "Downloading" => {
                let layer = self.layers.entry(id).or_default();
                let detail = news.progress_detail.unwrap_or_default();
                let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
                layer.done = number(detail.current).unwrap_or(layer.done);
                layer.total = number(detail.total).unwrap_or(layer.total).max(layer.done);
            }
            "Verifying Checksum" | "Download complete" | "Extracting" => {
                let layer = self.layers.entry(id).or_default();
                layer.done = layer.total;
            }
            "Pull complete" | "Already exists" => {
                let layer = self.layers.entry(id).or_default();
                layer.done = layer.total;
                layer.ready = true;
            }
            _ => return None,
        }
        if now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        Some(self.sentence())
    }

    fn sentence(&self) -> String {
        let layers = self.layers.len();
        let ready = self.layers.values().filter(|layer| layer.ready).count();
        let done = Bytes(self.layers.values().map(|layer| layer.done).sum());
        let total = Bytes(self.layers.values().map(|layer| layer.total).sum());
        format!("{done} of {total} downloaded, {ready} of {layers} layers ready")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn news(id: &str, status: &str, progress: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: progress.map(|(current, total)| ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn a_sentence_comes_at_most_once_a_second_and_counts_all_layers() {
        let begin = Instant::now();
        let mut progress = Progress::new(begin);
        let mut at = |millis, news| progress.take(news, begin + Duration::from_millis(millis));
        let first = at(0, news("a", "Pulling fs layer", None));
        assert_eq!(
            first.as_deref(),
            Some("0 B of 0 B downloaded, 0 of 1 layers ready")
        );
        assert_eq!(at(10, news("b", "Already exists", None)), None);
        assert_eq!(at(20, news("a", "Downloading", Some((512, 2048)))), None);
        let second = at(1000, news("a", "Downloading", Some((1024, 2048))));
        assert_eq!(
            second.as_deref(),
            Some("1 KiB of 2 KiB downloaded, 1 of 2 layers ready")
        );
        assert_eq!(at(1500, news("a", "Extracting", Some((1, 9)))), None);
        let last = at(2000, news("a", "Pull complete", None));
        assert_eq!(
            last.as_deref(),
            Some("2 KiB of 2 KiB downloaded, 2 of 2 layers ready")
        );
    }
}
