//! What was found: of one run, and of all rounds together.

use std::fmt;
use std::io::Write;

use serde::{Deserialize, Serialize};

/// What one run found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finding {
    /// As it should be.
    right: bool,
    /// In words; the number goes where `{}` is.
    words: String,
    number: u64,
}

impl Finding {
    pub fn right() -> Self {
        Self::right_with("right", 0)
    }

    pub fn right_with(words: &str, number: u64) -> Self {
        Self { right: true, words: words.to_owned(), number }
    }

    pub fn wrong(words: &str) -> Self {
        Self::wrong_with(words, 0)
    }

    pub fn wrong_with(words: &str, number: u64) -> Self {
        Self { right: false, words: words.to_owned(), number }
    }

    pub fn is_right(&self) -> bool {
        self.right
    }

    /// Tells the parent, and ends the process. Whoever is first is heard.
    pub fn tell(self) -> ! {
        let mut output = std::io::stdout().lock();
        writeln!(output, "{}", serde_json::to_string(&self).expect("plain data")).expect("somebody reads");
        output.flush().expect("somebody reads");
        // The others are in the middle of something, and may never end. The lock is kept, so that no other is heard.
        // SAFETY: there is nothing to come that it could take by surprise.
        unsafe { libc::_exit(0) }
    }
}

/// What all rounds found: each finding in words once, with its range of numbers and how often it was.
#[derive(Default)]
pub struct Cell {
    findings: Vec<(Finding, u64, u64)>,
    rounds: u64,
}

impl Cell {
    pub fn add(&mut self, finding: Finding) {
        self.rounds += 1;
        match self.findings.iter_mut().find(|(known, ..)| known.words == finding.words) {
            Some((known, most, times)) => {
                known.number = known.number.min(finding.number);
                *most = finding.number.max(*most);
                *times += 1;
            }
            None => {
                let number = finding.number;
                self.findings.push((finding, number, 1));
            }
        }
    }

    /// In all rounds.
    pub fn is_right(&self) -> bool {
        self.findings.iter().all(|(finding, ..)| finding.right)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (right, wrong): (Vec<_>, Vec<_>) = self.findings.iter().partition(|(finding, ..)| finding.right);
        for (index, (finding, most, times)) in wrong.into_iter().chain(right).enumerate() {
            let least = finding.number;
            let numbers = if least == *most { least.to_string() } else { format!("{least} to {most}") };
            let words = finding.words.replace("{}", &numbers);
            let separator = if index == 0 { "" } else { "; " };
            if finding.right {
                write!(f, "{separator}{words}")?;
            } else {
                write!(f, "{separator}**{words}**")?;
            }
            if *times < self.rounds {
                write!(f, " ({times} of {})", self.rounds)?;
            }
        }
        Ok(())
    }
}
