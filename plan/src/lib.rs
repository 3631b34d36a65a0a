//! The domain of Cutover, pure.

pub mod id;
pub mod outcome;
