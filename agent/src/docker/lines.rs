//! The last lines that a container wrote, fit to be shown to a person.

use std::collections::VecDeque;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt as _;

use crate::containers::{Container, ContainerError};

use super::connection::{Connection, QUESTION};

/// More than anyone reads in a report.
const MOST: usize = 1000;

/// The longest line shown: stack traces fit, minified bundles do not.
const LONGEST: usize = 500;

/// The last `count` lines of both outputs, oldest first.
pub(super) async fn last(
    engine: &Connection,
    container: &Container,
    count: usize,
) -> Result<Vec<String>, ContainerError> {
    last_of(engine, &container.id, &container.name, count).await
}

/// The same, of a container by its id.
pub(super) async fn last_of(
    engine: &Connection,
    id: &str,
    name: &str,
    count: usize,
) -> Result<Vec<String>, ContainerError> {
    let count = count.min(MOST);
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        tail: count.to_string(),
        ..LogsOptions::default()
    };
    let what = format!("reading the log of the container {name}");
    let lines = engine
        .call(what, QUESTION, async |client| {
            let mut lines = Lines::new(count);
            let mut stream = client.logs(id, Some(options));
            while let Some(output) = stream.next().await {
                lines.take(&output?);
            }
            Ok(lines.finish())
        })
        .await;
    match lines {
        // A container that is gone has said nothing more.
        Err(fault) if fault.is_missing() => Ok(Vec::new()),
        lines => Ok(lines?),
    }
}

/// Lines as they come in pieces of two outputs.
struct Lines {
    count: usize,
    whole: VecDeque<String>,
    /// What has no end of line yet: of the output, and of the error output.
    begun: [Vec<u8>; 2],
}

impl Lines {
    fn new(count: usize) -> Self {
        Self {
            count,
            whole: VecDeque::new(),
            begun: [Vec::new(), Vec::new()],
        }
    }

    fn take(&mut self, output: &LogOutput) {
        let (side, mut bytes) = match output {
            LogOutput::StdErr { message } => (1, message.as_ref()),
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message } => (0, message.as_ref()),
        };
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add(side, &bytes[..end]);
            self.close(side);
            bytes = &bytes[end + 1..];
        }
        self.add(side, bytes);
    }

    fn add(&mut self, side: usize, bytes: &[u8]) {
        // Four bytes a character; what is over is cut in the end anyway, and
        // colours may take some room before.
        let room = (8 * LONGEST).saturating_sub(self.begun[side].len());
        self.begun[side].extend(&bytes[..bytes.len().min(room)]);
    }

    fn close(&mut self, side: usize) {
        let bytes = std::mem::take(&mut self.begun[side]);
        let line = shown(&String::from_utf8_lossy(&bytes));
        self.whole.push_back(line);
        if self.whole.len() > self.count {
            self.whole.pop_front();
        }
    }

    fn finish(mut self) -> Vec<String> {
        for side in 0..2 {
            if !self.begun[side].is_empty() {
                self.close(side);
            }
        }
        self.whole.into()
    }
}

/// A line without colours and control characters, cut.
fn shown(line: &str) -> String {
    let mut shown = String::new();
    let mut characters = line.chars().peekable();
    let mut room = LONGEST;
    while let Some(character) = characters.next() {
        // A terminal's sequence: ESC [ … and a letter.
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            while characters
                .next_if(|c| ('\u{20}'..='\u{3f}').contains(c))
                .is_some()
            {}
            characters.next();
            continue;
        }
        let character = if character == '\t' { ' ' } else { character };
        if character.is_control() {
            continue;
        }
        if room == 0 {
            shown.pop();
            shown.push('…');
            break;
        }
        room -= 1;
        shown.push(character);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &'static str) -> LogOutput {
        LogOutput::StdOut {
            message: text.into(),
        }
    }

    fn err(text: &'static str) -> LogOutput {
        LogOutput::StdErr {
            message: text.into(),
        }
    }

    fn check(count: usize, outputs: &[LogOutput], expected: &[&str]) {
        let mut lines = Lines::new(count);
        outputs.iter().for_each(|output| lines.take(output));
        assert_eq!(lines.finish(), expected);
    }

    #[test]
    fn lines_are_put_together_and_the_last_are_kept() {
        check(5, &[out("a\nb\n"), err("c\n")], &["a", "b", "c"]);
        check(
            5,
            &[out("a"), err("x\n"), out("b\n"), out("end")],
            &["x", "ab", "end"],
        );
        check(2, &[out("a\nb\nc\n")], &["b", "c"]);
        check(0, &[out("a\n")], &[]);
    }

    #[test]
    fn a_line_is_printable_and_short() {
        assert_eq!(shown("\u{1b}[1;31mred\u{1b}[0m\r\u{7}\tend"), "red end");
        assert_eq!(shown(&"é".repeat(501)).chars().count(), 500);
        assert_eq!(shown(&"x".repeat(500)), "x".repeat(500));
    }
}
