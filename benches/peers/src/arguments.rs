//! The command line.

use crate::contestant::Contestant;
use crate::faults;
use crate::workload::Workload;

pub enum Command {
    All(Arguments),
    One(One),
    /// The other job of this program.
    Faults(faults::All),
    Fault(faults::One),
}

/// What a run of the whole is to do.
pub struct Arguments {
    /// Each must be in a workload's name.
    pub words: Vec<String>,
    pub contestants: Vec<Contestant>,
    pub rounds: usize,
    pub quick: bool,
}

/// What a child process is to do.
pub struct One {
    pub contestant: Contestant,
    pub workload: Workload,
    pub messages: u32,
}

const USAGE: &str = "\
arguments: faults, for what happens when something goes wrong (faults --help), or
           [WORD].. [--contestants NAME,..] [--rounds N] [--quick] [--list]
  WORD           only workloads with all of these words in their names
  --contestants  only these, and blocking libzmq, with which they are compared
  --rounds N     measure each N times, 5 if not said
  --quick        one round with few messages, to see that everything runs
  --list         print the names of workloads and contestants";

impl Arguments {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut arguments = arguments.peekable();
        if let Some(job) = arguments.next_if(|job| job == "faults" || job == "--fault") {
            return Ok(if job == "faults" {
                Command::Faults(faults::All::parse(arguments)?)
            } else {
                Command::Fault(faults::One::parse(arguments)?)
            });
        }
        let mut all = Self { words: Vec::new(), contestants: Contestant::ALL.to_vec(), rounds: 5, quick: false };
        let mut rounds = None;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
            match argument.as_str() {
                "--one" => return Ok(Command::One(One::parse(arguments)?)),
                "--contestants" => all.contestants = contestants(&value()?)?,
                "--rounds" => rounds = Some(value()?.parse().map_err(|error| format!("--rounds: {error}"))?),
                "--quick" => all.quick = true,
                "--list" => return Err(list()),
                option if option.starts_with('-') => return Err(USAGE.to_owned()),
                word => all.words.push(word.to_owned()),
            }
        }
        all.rounds = rounds.unwrap_or(if all.quick { 1 } else { all.rounds }).max(1);
        Ok(Command::All(all))
    }

    pub fn workloads(&self) -> Vec<Workload> {
        let mut workloads = Workload::all();
        workloads.retain(|workload| self.words.iter().all(|word| workload.to_string().contains(word.as_str())));
        workloads
    }

    /// How many of a workload's messages to send.
    pub fn scale(&self, messages: u32) -> u32 {
        if self.quick { (messages / 10).max(100) } else { messages }
    }

    /// Not the whole of what there is.
    pub fn is_partial(&self) -> bool {
        self.quick || !self.words.is_empty() || self.contestants.len() < Contestant::ALL.len()
    }
}

impl One {
    /// As [`One::arguments`] writes it.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut next = || arguments.next().ok_or("--one wants CONTESTANT WORKLOAD MESSAGES");
        let (contestant, workload, messages) = (next()?, next()?, next()?);
        Ok(Self {
            contestant: Contestant::named(&contestant).ok_or_else(list)?,
            workload: Workload::named(&workload).ok_or_else(list)?,
            messages: messages.parse().map_err(|error| format!("{messages}: {error}"))?,
        })
    }

    pub fn arguments(&self) -> [String; 4] {
        let Self { contestant, workload, messages } = self;
        ["--one".to_owned(), contestant.to_string(), workload.to_string(), messages.to_string()]
    }
}

fn contestants(names: &str) -> Result<Vec<Contestant>, String> {
    let named = |name| Contestant::named(name).ok_or_else(list);
    let mut contestants = names.split(',').map(named).collect::<Result<Vec<_>, _>>()?;
    contestants.push(Contestant::Blocking);
    let mut all = Contestant::ALL.to_vec();
    all.retain(|contestant| contestants.contains(contestant));
    Ok(all)
}

fn list() -> String {
    let workloads: String = Workload::all().iter().map(|workload| format!("  {workload}\n")).collect();
    let contestants: String = Contestant::ALL.iter().map(|contestant| format!("  {contestant}\n")).collect();
    format!("workloads:\n{workloads}contestants:\n{contestants}")
}
