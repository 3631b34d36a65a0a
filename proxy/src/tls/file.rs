//! A file of a certificate or a key: read within bounds, and known again by its stamp.
//!
//! It blocks, so it is called where that is allowed. It understands no content.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::pair::{Fault, MAX_TEXT, Part};

/// A change within this time may leave the stamp as it was: file systems count
/// in steps of up to two seconds.
const UNSETTLED_S: i64 = 2;

/// The right of everybody to read.
const READABLE_BY_ALL: u32 = 0o004;

/// What differs when a file was written, replaced, or given other rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file as it was read.
pub(super) struct Content {
    pub(super) text: Vec<u8>,
    /// Its stamp; none if it was changed so lately that a stamp tells nothing.
    pub(super) stamp: Option<Stamp>,
    pub(super) readable_by_all: bool,
}

/// The stamp of a file, following links, or none where there is no file.
pub(super) fn stamp(path: &str) -> Option<Stamp> {
    std::fs::metadata(path)
        .ok()
        .map(|metadata| Stamp::of(&metadata))
}

/// Reads a file.
pub(super) fn read(part: Part, path: &str) -> Result<Content, Fault> {
    let path = Path::new(path);
    let unreadable = |source: io::Error| Fault::Unreadable {
        part,
        path: path.to_owned(),
        source,
    };
    let (mut file, metadata) = open(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let path = path.to_owned();
        return Err(Fault::NoFile { part, path });
    }
    // The stamp is from before the reading, so what changes during it is seen later.
    let stamp = Stamp::of(&metadata);
    let mut text = Vec::new();
    let mut bounded = (&mut file).take(MAX_TEXT as u64 + 1);
    bounded.read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_TEXT {
        return Err(Fault::TooLong(part));
    }
    Ok(Content {
        text,
        stamp: Some(stamp).filter(Stamp::is_settled),
        readable_by_all: metadata.mode() & READABLE_BY_ALL != 0,
    })
}

/// Opens without waiting: a pipe in the place of a file would never open otherwise.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.changed.0.saturating_add(UNSETTLED_S) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_small_readable_file_is_a_fault_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let missing = read(Part::Key, &at("missing")).err();
        assert!(matches!(missing, Some(Fault::Unreadable { .. })));
        let folder = read(Part::Key, &at("."));
        assert!(matches!(folder.err(), Some(Fault::NoFile { .. })));
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, mode, 0).unwrap();
        let pipe = read(Part::Key, &at("pipe"));
        assert!(matches!(pipe.err(), Some(Fault::NoFile { .. })));
        fs::write(at("large"), vec![b'x'; MAX_TEXT + 1]).unwrap();
        let large = read(Part::Chain, &at("large"));
        assert!(matches!(large.err(), Some(Fault::TooLong(Part::Chain))));
        fs::write(at("most"), vec![b'x'; MAX_TEXT]).unwrap();
        assert_eq!(read(Part::Chain, &at("most")).unwrap().text.len(), MAX_TEXT);
    }

    #[test]
    fn a_stamp_tells_a_written_and_a_replaced_file_from_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("a"), "one").unwrap();
        let first = stamp(&at("a")).unwrap();
        assert_eq!(stamp(&at("a")), Some(first));
        // What was just written may be written again within the same tick.
        assert!(!first.is_settled());
        assert_eq!(read(Part::Key, &at("a")).unwrap().stamp, None);
        fs::write(at("b"), "two").unwrap();
        fs::rename(at("b"), at("a")).unwrap();
        assert_ne!(stamp(&at("a")), Some(first));
        fs::remove_file(at("a")).unwrap();
        assert_eq!(stamp(&at("a")), None);
    }
}
