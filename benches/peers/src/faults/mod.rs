//! The other job of this program: what happens on each library when something goes wrong, or is merely awkward.
//!
//! Each case runs in a process of its own, with a deadline, some rounds with different seeds. See "The same faults
//! elsewhere" in README.md.

mod arguments;
mod cases;
mod finding;
mod libraries;
mod library;
mod scene;
mod table;
mod watch;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

pub use arguments::{All, One};
use cases::Case;
use finding::{Cell, Finding};
use libraries::{AsyncZmq, Ours, Tmq};
use library::Library;
use scene::Scene;

use crate::child::{self, Ended};

/// Runs all that is asked for, prints the table, and writes it.
pub fn run(all: &All) {
    let begin = Instant::now();
    let cases = all.cases();
    let mut rows = Vec::new();
    for case in &cases {
        let cells = [Ours::NAME, Tmq::NAME, AsyncZmq::NAME].map(|library| cell(all, library, case.name));
        eprintln!("{}: {}", case.name, cells.each_ref().map(Cell::to_string).join(" | "));
        rows.push((case, cells));
    }
    let text = table::markdown(&rows, all.rounds);
    println!("{text}");
    // What stands in the repository is the whole of it.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = if all.is_partial() { own.join("target") } else { own.to_owned() };
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("faults.md"), text).expect("a file");
    eprintln!("{} s; faults.md is in {}", begin.elapsed().as_secs(), directory.display());
}

/// What the rounds of one case gave on one library.
fn cell(all: &All, library: &str, case: &str) -> Cell {
    let mut cell = Cell::default();
    for seed in 1..=all.rounds {
        let one = One { contestant: library.to_owned(), case: case.to_owned(), seed, quick: all.quick };
        let mut program = Command::new(env::current_exe().expect("this program"));
        cell.add(match child::output(program.args(one.arguments()), PATIENCE) {
            Ended::Stalled => Finding::wrong("does not end"),
            Ended::Done(status, output) => {
                serde_json::from_str(&output).unwrap_or_else(|_| Finding::wrong(&format!("dies: {status}")))
            }
        });
    }
    cell
}

/// The watch in the child is quicker; this is for what it cannot see.
const PATIENCE: Duration = Duration::from_secs(60);

/// The child process: one library, one case.
pub fn run_one(one: &One) -> ! {
    child::end_with_parent().expect("the kernel knows it");
    match one.contestant.as_str() {
        Ours::NAME => run_on::<Ours>(one),
        Tmq::NAME => run_on::<Tmq>(one),
        AsyncZmq::NAME => run_on::<AsyncZmq>(one),
        other => panic!("there is no {other}"),
    }
}

fn run_on<L: Library>(one: &One) -> ! {
    let case = cases::all::<L>().into_iter().find(|case: &Case| case.name == one.case).expect("a case");
    // A program that takes long to end is watched by the one that started it.
    if env::var_os(cases::end::ENDPOINT).is_none() {
        watch::start();
    }
    (case.run)(Scene::new(one)).tell()
}
