//! The journal as its users see it: real files, a real SIGKILL, a real disk limit.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod contents;
mod crashes;
mod deploys;
mod files;
