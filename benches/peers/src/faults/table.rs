//! The table in Markdown.

use std::fmt::Write;

use super::cases::Case;
use super::finding::Cell;
use crate::machine::Machine;

pub fn markdown(rows: &[(&Case, [Cell; 3])], rounds: u64) -> String {
    let machine = Machine::this(None);
    let part = |name: &str| {
        let version = machine.versions.get(name).map_or("?", String::as_str);
        format!("{name} {version}")
    };
    let mut text = format!(
        "# What happens when something goes wrong\n\n\
         Rounds of each case on each library: {rounds}, with the seeds 1 to {rounds}, on {} cores, Linux {}, with {}, {}, \
         {} and {}. What is not as one would want it is bold; (2 of 5) says in how many rounds. How to read it: \
         [README.md](README.md#the-same-faults-elsewhere).\n\n",
        machine.cores,
        machine.kernel,
        part("libzmq"),
        part("zmq"),
        part("tokio"),
        part("calloop"),
    );
    let titles = ["calloop-zmq", "tmq", "async_zmq"].map(part);
    let _ = writeln!(text, "| | {} |\n|---|---|---|---|", titles.join(" | "));
    for (case, cells) in rows {
        let cells: Vec<_> = cells.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| `{}`: {} | {} |", case.name, case.question, cells.join(" | "));
    }
    let right = [0, 1, 2].map(|library| {
        let right = rows.iter().filter(|(_, cells)| cells[library].is_right()).count();
        format!("{right} of {}", rows.len())
    });
    let _ = writeln!(text, "| right in all rounds | {} |", right.join(" | "));
    text
}
