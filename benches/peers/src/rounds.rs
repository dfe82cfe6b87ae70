//! The rounds: in each one, every contestant runs once, in turn, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use crate::arguments::{Arguments, One};
use crate::child::{self, Ended};
use crate::clock::Measured;
use crate::contestant::Contestant;
use crate::results::Row;
use crate::workload::Workload;

/// What came of one run.
#[derive(Clone, Debug)]
pub enum Outcome {
    Measured(Measured),
    /// That is not for this contestant.
    Unable,
    /// It was not done in time.
    Stalled,
    Failed,
}

pub fn run(arguments: &Arguments, python: Option<&str>) -> Vec<Row> {
    let workloads = arguments.workloads();
    let mut rows = Vec::new();
    for (number, workload) in workloads.iter().enumerate() {
        let begin = Instant::now();
        rows.extend(run_workload(arguments, python, workload));
        eprintln!("{:2}/{} {workload}: {:.1} s", number + 1, workloads.len(), begin.elapsed().as_secs_f64());
    }
    rows
}

fn run_workload(arguments: &Arguments, python: Option<&str>, workload: &Workload) -> Vec<Row> {
    let mut outcomes = vec![Vec::new(); arguments.contestants.len()];
    for round in 0..arguments.rounds {
        for turn in 0..arguments.contestants.len() {
            // Another one begins each round: what went before may warm a machine up or wear it out.
            let index = (round + turn) % arguments.contestants.len();
            let contestant = arguments.contestants[index];
            // Who stalled or cannot will do so again.
            if !outcomes[index].iter().all(|outcome| matches!(outcome, Outcome::Measured(_))) {
                continue;
            }
            let messages = contestant.fewer(arguments.scale(workload.messages));
            let one = One { contestant, workload: workload.clone(), messages };
            outcomes[index].push(if contestant == Contestant::Pyzmq && python.is_none() {
                Outcome::Unable
            } else {
                run_one(&one, python)
            });
        }
    }
    let baseline = arguments.contestants.iter().position(|contestant| *contestant == Contestant::Blocking);
    let baseline = outcomes[baseline.expect("it is always there")].clone();
    let contestants = arguments.contestants.iter().zip(&outcomes);
    contestants.map(|(contestant, outcomes)| Row::new(workload, *contestant, outcomes, &baseline)).collect()
}

fn run_one(one: &One, python: Option<&str>) -> Outcome {
    let scratch = Scratch::new();
    let mut program = Command::new(env::current_exe().expect("this program"));
    program.args(one.arguments()).current_dir(scratch.path()).env("PYTHON", python.unwrap_or_default());
    let (status, output) = match child::output(&mut program, PATIENCE) {
        Ended::Done(status, output) => (status, output),
        Ended::Stalled => {
            eprintln!("   {} stalled", one.contestant);
            return Outcome::Stalled;
        }
    };
    match serde_json::from_str(&output) {
        Ok(Some(measured)) => Outcome::Measured(measured),
        Ok(None) => Outcome::Unable,
        Err(_) => {
            eprintln!("   {} failed: {status}", one.contestant);
            Outcome::Failed
        }
    }
}

/// How long a run of less than a second may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory for ipc endpoints.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let path = env::temp_dir().join(format!("calloop-zmq-peers-{}", process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left there hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
