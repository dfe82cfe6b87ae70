//! The command line of this job.

use super::Ours;
use super::cases::{self, Case};

/// What a run of the whole is to do.
pub struct All {
    /// Each must be in a case's name.
    pub words: Vec<String>,
    pub rounds: u64,
    pub quick: bool,
}

/// What a child process is to do.
#[derive(Clone)]
pub struct One {
    pub contestant: String,
    pub case: String,
    pub seed: u64,
    pub quick: bool,
}

const USAGE: &str = "\
arguments: faults [WORD].. [--rounds N] [--quick] [--list]
  WORD        only cases with all of these words in their names
  --rounds N  run each N times, 5 if not said
  --quick     one round with fewer messages
  --list      print the names of the cases";

impl All {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut all = Self { words: Vec::new(), rounds: 0, quick: false };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => all.rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).ok_or(USAGE)?,
                "--quick" => all.quick = true,
                "--list" => return Err(list()),
                option if option.starts_with('-') => return Err(USAGE.to_owned()),
                word => all.words.push(word.to_owned()),
            }
        }
        if all.rounds == 0 {
            all.rounds = if all.quick { 1 } else { 5 };
        }
        Ok(all)
    }

    pub fn cases(&self) -> Vec<Case> {
        let mut cases = cases::all::<Ours>();
        cases.retain(|case| self.words.iter().all(|word| case.name.contains(word.as_str())));
        cases
    }

    /// Not the whole of what there is.
    pub fn is_partial(&self) -> bool {
        self.quick || self.rounds < 5 || !self.words.is_empty()
    }
}

impl One {
    /// As [`One::arguments`] writes it.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut next = || arguments.next().ok_or("--fault wants LIBRARY CASE SEED PACE");
        Ok(Self {
            contestant: next()?,
            case: next()?,
            seed: next()?.parse().map_err(|error| format!("the seed: {error}"))?,
            quick: next()? == "quick",
        })
    }

    pub fn arguments(&self) -> [String; 5] {
        let pace = if self.quick { "quick" } else { "full" };
        ["--fault".to_owned(), self.contestant.clone(), self.case.clone(), self.seed.to_string(), pace.to_owned()]
    }
}

fn list() -> String {
    cases::all::<Ours>().iter().map(|case| format!("{}\n    {}\n", case.name, case.question)).collect()
}
