//! All that the demo prints, to standard output.

use std::io::Write as _;

use clap::ValueEnum;

/// Whether there are colours.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// There are.
    Always,
    /// There are none.
    Never,
}

/// A colour by what it means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// A title.
    Strong,
    /// Beside the point.
    Faint,
}

/// Where the demo prints.
pub(crate) struct Screen {
    color: Color,
}

impl Screen {
    pub(crate) fn new(color: Color) -> Self {
        Self { color }
    }

    pub(crate) fn paint(&self, mood: Mood, text: &str) -> String {
        if self.color == Color::Never || text.is_empty() {
            return text.to_owned();
        }
        let code = match mood {
            Mood::Good => "32",
            Mood::Bad => "31",
            Mood::Strong => "1",
            Mood::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end())?;
        Ok(stdout.flush()?)
    }

    pub(crate) fn title(&self, title: &str, about: &str) -> anyhow::Result<()> {
        self.line("")?;
        self.line(&self.paint(Mood::Strong, title))?;
        self.line(&self.paint(Mood::Faint, about))
    }

    pub(crate) fn headline(&self, headline: &str, about: &str) -> anyhow::Result<()> {
        self.line("")?;
        self.line(&self.paint(Mood::Strong, &format!("── {headline}")))?;
        self.line(&self.paint(Mood::Faint, &format!("   {about}")))
    }

    /// A line of the command line's own.
    pub(crate) fn told(&self, line: &str) -> anyhow::Result<()> {
        let line = &shortened(line);
        let mood = match line.chars().next() {
            Some('✓') => Mood::Good,
            Some('✗' | '!') => Mood::Bad,
            _ => return self.line(&format!("   {line}")),
        };
        self.line(&format!("   {}", self.paint(mood, line)))
    }

    /// A line about the users.
    pub(crate) fn users(&self, line: &str, bad: bool) -> anyhow::Result<()> {
        let mood = if bad { Mood::Bad } else { Mood::Faint };
        self.line(&format!(
            "            {}",
            self.paint(mood, &format!("· {line}"))
        ))
    }
}

/// A line whose digests are cut, so that it fits a terminal.
fn shortened(line: &str) -> String {
    const KEPT: usize = 12;
    let mut parts = line.split("sha256:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hex = part.find(|c: char| !c.is_ascii_hexdigit());
        let (digest, rest) = part.split_at(hex.unwrap_or(part.len()));
        text.push_str("sha256:");
        match digest.get(..KEPT) {
            Some(kept) if digest.len() > KEPT => text.extend([kept, "…"]),
            _ => text.push_str(digest),
        }
        text.push_str(rest);
    }
    text
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
