//! calloop-zmq beside libzmq called by hand and beside the other async ZeroMQ crates. See README.md.

mod arguments;
mod chart;
mod child;
mod clock;
mod contestant;
mod contestants;
mod course;
mod faults;
mod machine;
mod peer;
mod results;
mod rounds;
mod syscalls;
mod table;
mod workload;

use std::fs;
use std::path::Path;
use std::time::Instant;

use arguments::{Arguments, Command};
use results::Results;

fn main() {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Command::One(one)) => child::run(&one),
        Ok(Command::All(arguments)) => arguments,
        Ok(Command::Faults(all)) => return faults::run(&all),
        Ok(Command::Fault(one)) => faults::run_one(&one),
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    let begin = Instant::now();
    let python = contestants::pyzmq::python();
    if python.is_none() {
        eprintln!("pyzmq: skipped, no python with it was found; PYTHON may name one");
    }
    let rows = rounds::run(&arguments, python.as_deref());
    let calls = syscalls::count(&arguments);
    let machine = machine::Machine::this(python.as_deref());
    let results = Results { machine, rounds: arguments.rounds, seconds: begin.elapsed().as_secs(), rows, calls };
    let tables = table::markdown(&results);
    println!("{tables}");
    // What stands in the repository is the whole of it, from a full run.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = if arguments.is_partial() { own.join("target") } else { own.to_owned() };
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("results.md"), tables).expect("a file");
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    fs::write(directory.join("results.json"), json + "\n").expect("a file");
    fs::write(directory.join("chart.svg"), chart::svg(&results)).expect("a file");
    eprintln!("{} s; results.md, results.json and chart.svg are in {}", results.seconds, directory.display());
}
