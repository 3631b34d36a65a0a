//! The end of a run of the command line.

use std::process::Output;

/// How a run of the command line ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to both its outputs.
    pub text: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Self {
            code: output.status.code().unwrap_or(-1),
            text,
        }
    }
}
