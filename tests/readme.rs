//! What the README says is what there is: its example is the crate's doctest, and CI runs its commands.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_example_is_the_one_that_is_tested() {
    let readme = read("README.md");
    let docs: String = read("src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let shown: Vec<_> = block(&readme, "```rust").collect();
    let tested: Vec<_> = block(&docs, "```").filter(|line| !line.starts_with("# ") && *line != "#").collect();
    assert!(shown.len() > 10, "README.md has no example");
    assert_eq!(shown, tested, "the examples of README.md and src/lib.rs differ");
}

#[test]
fn ci_runs_the_commands() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let commands: Vec<_> = block(&readme, "```sh").collect();
    assert_eq!(commands.len(), 2, "a newcomer gets two commands");
    for command in commands {
        // A step of CI may put a limit before the command, and nothing else.
        let runs = |line: &str| {
            line.strip_prefix("timeout ").and_then(|rest| rest.split_once(' ')).map_or(line, |it| it.1) == command
        };
        assert!(ci.lines().any(runs), ".ci/run does not run `{command}`");
    }
}

#[test]
fn every_example_and_every_chapter_is_listed() {
    let readme = read("README.md");
    let mut listed = 0;
    for (directory, extension) in [("examples", "rs"), ("src/guide", "md")] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == extension) {
                let name = path.file_stem().unwrap().to_str().unwrap();
                let (row, link) = (format!("| `{name}` |"), format!("(src/guide/{name}.md)"));
                assert!(readme.contains(&row) || readme.contains(&link), "README.md does not list {name}");
                listed += 1;
            }
        }
    }
    assert!(listed > 10);
}

/// The lines of the first fenced block that opens with this line.
fn block<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().skip_while(move |line| *line != opening).skip(1).take_while(|line| *line != "```")
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
