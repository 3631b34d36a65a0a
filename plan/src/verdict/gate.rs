//! The gate: a release gets requests only after good answers in a row.
//!
//! It says after each answer what comes next: ask again and when, let it pass,
//! or give up and why. Until the first good answer it asks more often than the
//! interval, so that an app that starts quickly is not kept waiting; good
//! answers are an interval apart.

use std::time::Duration;

use crate::id::ReleaseNumber;
use crate::spec::render_duration;
use crate::step::HealthCheck;

/// From the first question to the second; doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What a release answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is well.
    Good,
    /// It is not, or did not answer: what it said.
    Bad(String),
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// Ask again after this pause.
    Ask(Duration),
    /// It may get requests.
    Open {
        /// One sentence.
        because: String,
    },
    /// It may not.
    Shut {
        /// One sentence.
        because: String,
        /// What a person can do.
        hint: &'static str,
    },
}

/// The answers of a release so far.
#[derive(Debug, Clone)]
pub struct Gate<'a> {
    release: ReleaseNumber,
    check: &'a HealthCheck,
    deadline: Duration,
    left: Duration,
    in_a_row: u32,
    last: String,
    impatience: Duration,
}

impl<'a> Gate<'a> {
    /// A gate of which `left` is left; the deadline is the whole of it.
    pub fn new(
        release: ReleaseNumber,
        check: &'a HealthCheck,
        deadline: Duration,
        left: Duration,
    ) -> Self {
        Self {
            release,
            check,
            deadline,
            left,
            in_a_row: 0,
            last: "it was not asked yet".to_owned(),
            impatience: FIRST_PAUSE,
        }
    }

    /// What a bad answer tells that the one before it did not, in one line.
    pub fn news(&self, answer: &Answer) -> Option<String> {
        match answer {
            Answer::Bad(text) if *text != self.last => {
                Some(format!("{}: {text}", self.check.question))
            }
            Answer::Bad(_) | Answer::Good => None,
        }
    }

    /// Takes an answer, by which the release has taken so long in all.
    pub fn answer(&mut self, answer: Answer, elapsed: Duration) -> Passage {
        match answer {
            Answer::Good => self.in_a_row += 1,
            Answer::Bad(text) => {
                self.in_a_row = 0;
                self.last = text;
            }
        }
        if self.in_a_row >= self.check.successes {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let took = render_duration(Duration::from_millis(millis));
            return Passage::Open {
                because: format!("healthy after {took}"),
            };
        }
        let pause = match self.in_a_row {
            0 => self.impatience.min(self.check.interval),
            _ => self.check.interval,
        };
        self.impatience = pause.saturating_mul(2);
        if elapsed.saturating_add(pause) > self.left {
            return Passage::Shut {
                because: format!(
                    "{} was not healthy within {}: {}: {}",
                    self.release,
                    render_duration(self.deadline),
                    self.check.question,
                    self.last
                ),
                hint: "see the app's last lines; a slow start needs a longer health.deadline",
            };
        }
        Passage::Ask(pause)
    }

    /// Why the gate is shut when a container died: it cannot become healthy any more.
    pub fn casualty(&self, casualty: &str) -> String {
        format!("{casualty} before it was healthy")
    }

    /// Why the gate is shut when there is nobody to ask.
    pub fn gone(&self) -> String {
        format!("{} has no container any more", self.release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Question;

    /// Asks until the gate is open or shut; `+` is a good answer, the last
    /// answer is repeated. An answer takes no time.
    fn check(answers: &str, expected: &str) {
        let health = HealthCheck {
            question: Question::Get("/up".to_owned()),
            interval: Duration::from_millis(400),
            timeout: Duration::from_secs(1),
            successes: 3,
            docker: crate::spec::DockerHealth::Ignore,
        };
        let (deadline, left) = (Duration::from_secs(3), Duration::from_secs(2));
        let mut gate = Gate::new(ReleaseNumber(2), &health, deadline, left);
        let mut elapsed = Duration::ZERO;
        let mut told = String::new();
        let last = answers.chars().last().unwrap();
        for answer in answers.chars().chain(std::iter::repeat(last)) {
            let answer = match answer {
                '+' => Answer::Good,
                other => Answer::Bad(other.to_string()),
            };
            match gate.answer(answer, elapsed) {
                Passage::Ask(pause) => {
                    told += &format!("{} ", pause.as_millis());
                    elapsed += pause;
                }
                Passage::Open { because } | Passage::Shut { because, .. } => {
                    told += &because;
                    break;
                }
            }
        }
        assert_eq!(told, expected, "{answers}");
    }

    #[test]
    fn good_answers_count_in_a_row_and_an_interval_apart() {
        check("+", "400 400 healthy after 800ms");
        check("xx+", "50 100 400 400 healthy after 950ms");
        check("++x+", "400 400 400 400 400 healthy after 2s");
        check(
            "+x+x+x+x",
            "400 400 400 400 400 v2 was not healthy within 3s: GET /up: x",
        );
        // At its deadline it is not over, after it it is.
        check(
            "xy++x+",
            "50 100 400 400 400 400 v2 was not healthy within 3s: GET /up: x",
        );
    }

    #[test]
    fn a_gate_without_a_good_answer_shuts_at_its_deadline() {
        check(
            "ab",
            "50 100 200 400 400 400 400 v2 was not healthy within 3s: GET /up: b",
        );
    }

    #[test]
    fn a_bad_answer_is_news_once() {
        let health = HealthCheck {
            question: Question::Get("/up".to_owned()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            successes: 1,
            docker: crate::spec::DockerHealth::Ignore,
        };
        let whole = Duration::from_secs(9);
        let mut gate = Gate::new(ReleaseNumber(2), &health, whole, whole);
        let bad = Answer::Bad("503".to_owned());
        assert_eq!(gate.news(&bad).as_deref(), Some("GET /up: 503"));
        gate.answer(bad.clone(), Duration::ZERO);
        assert_eq!(gate.news(&bad), None);
        assert_eq!(gate.news(&Answer::Good), None);
    }
}
