//! The results as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contestant::Contestant;
use crate::results::{Calls, Results, Row};
use crate::workload::Unit;

pub fn markdown(results: &Results) -> String {
    let contestants: Vec<_> = columns(results);
    let mut text = String::new();
    let machine = &results.machine;
    let versions: Vec<_> = machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(
        text,
        "Medians of {} rounds on {} cores of {}, Linux {}.\n{}.\n",
        results.rounds,
        machine.cores,
        machine.cpu,
        machine.kernel,
        versions.join(", ")
    );
    let _ = writeln!(text, "### In short: speed, libzmq in blocking calls being 1\n");
    grid(&mut text, results, &contestants[1..], |row| row.of.0.is_charted(), |row| row.speed.map(ratio));
    let mut groups: Vec<&str> = Vec::new();
    for row in &results.rows {
        if !groups.contains(&row.of.0.group()) {
            groups.push(row.of.0.group());
        }
    }
    for group in groups {
        let of_group = |row: &&Row| row.of.0.group() == group;
        let _ = writeln!(text, "### {group}\n");
        grid(&mut text, results, &contestants, of_group, speed);
    }
    let _ = writeln!(text, "### CPU seconds for a million messages: the loop's thread, and all threads\n");
    grid(&mut text, results, &contestants, has_costs, |row| {
        Some(format!("{}, {}", rounded(row.cpu_loop?), rounded(row.cpu_all?)))
    });
    let _ = writeln!(text, "### Allocations for each message, in the loop's thread\n");
    grid(&mut text, results, &contestants, has_costs, |row| Some(rounded(row.allocations?)));
    calls(&mut text, &results.calls);
    text
}

fn columns(results: &Results) -> Vec<Contestant> {
    // The one with which all are compared comes first.
    let mut contestants = vec![Contestant::Blocking];
    for row in &results.rows {
        if !contestants.contains(&row.of.1) {
            contestants.push(row.of.1);
        }
    }
    contestants
}

/// A row for each workload, a column for each contestant.
fn grid(
    text: &mut String,
    results: &Results,
    contestants: &[Contestant],
    of_grid: impl Fn(&&Row) -> bool,
    cell: impl Fn(&Row) -> Option<String>,
) {
    let titles: Vec<_> = contestants.iter().map(|contestant| contestant.title()).collect();
    let _ = writeln!(text, "| | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
    let mut workloads: Vec<&str> = Vec::new();
    for row in results.rows.iter().filter(of_grid) {
        if !workloads.contains(&row.workload.as_str()) {
            workloads.push(&row.workload);
        }
    }
    for workload in workloads {
        let _ = write!(text, "| {workload} |");
        for contestant in contestants {
            let row = results.rows.iter().find(|row| row.workload == workload && row.of.1 == *contestant);
            let cell = row.and_then(|row| cell(row).or(row.remark.map(str::to_owned)));
            let _ = write!(text, " {} |", cell.as_deref().unwrap_or("–").replace("not possible", "–"));
        }
        text.push('\n');
    }
    text.push('\n');
}

/// **1.02**, 3.4 M/s
fn speed(row: &Row) -> Option<String> {
    let value = row.value?;
    let mut cell = row.speed.map_or(String::new(), |speed| format!("**{}**, ", ratio(speed)));
    let _ = match row.of.0.unit() {
        Unit::Rate if value >= 1e6 => write!(cell, "{:.2} M/s", value / 1e6),
        Unit::Rate => write!(cell, "{:.0} k/s", value / 1e3),
        Unit::Latency => write!(cell, "{:.1} µs (99 %: {:.0})", value / 1e3, row.p99.unwrap_or_default() / 1e3),
        Unit::Delay => write!(cell, "{:.2} ms", value / 1e6),
    };
    if let Some(remark) = row.remark {
        let _ = write!(cell, ", then {remark}");
    }
    Some(cell)
}

fn ratio(speed: f64) -> String {
    if speed < 10.0 { format!("{speed:.2}") } else { rounded(speed) }
}

/// Those whose costs are shown; results.json has all.
fn has_costs(row: &&Row) -> bool {
    const SHOWN: [&str; 11] = [
        "throughput/receive/inproc/16",
        "throughput/receive/inproc/256",
        "throughput/receive/tcp/256",
        "throughput/send/inproc/16",
        "throughput/send/inproc/256",
        "throughput/send/tcp/256",
        "frames/receive/tcp",
        "frames/receive-into/tcp",
        "frames/send/tcp",
        "roundtrip/dealer-router/tcp/pinned",
        "duplex/tcp",
    ];
    SHOWN.contains(&row.workload.as_str()) || row.workload.starts_with("fan-in") || row.workload.starts_with("idle")
}

/// Two digits that say something, and no more than four after the point.
fn rounded(value: f64) -> String {
    if value < 0.00005 {
        return "0".to_owned();
    }
    let decimals = (1.0 - value.log10().floor()).clamp(0.0, 4.0);
    format!("{value:.*}", decimals as usize)
}

fn calls(text: &mut String, calls: &[Calls]) {
    let mut workloads: Vec<&str> = Vec::new();
    for row in calls {
        if !workloads.contains(&row.workload.as_str()) {
            workloads.push(&row.workload);
        }
    }
    for workload in workloads {
        let _ = writeln!(text, "### System calls for each message: {workload}\n");
        let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(text, "| | {} | other | all |\n|---|{}", names.join(" | "), "---|".repeat(names.len() + 2));
        for row in calls.iter().filter(|row| row.workload == workload) {
            let _ = write!(text, "| {} |", row.by.title());
            let mut other = row.calls.clone();
            for (_, kind) in KINDS {
                let sum: f64 = kind.iter().filter_map(|name| other.remove(*name)).sum();
                let _ = write!(text, " {} |", rounded(sum));
            }
            let sum = |calls: &BTreeMap<String, f64>| rounded(calls.values().sum());
            let _ = writeln!(text, " {} | {} |", sum(&other), sum(&row.calls));
        }
        text.push('\n');
    }
}

/// What stands in one column.
const KINDS: [(&str, &[&str]); 7] = [
    ("poll", &["poll", "ppoll"]),
    ("epoll wait", &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    ("epoll_ctl", &["epoll_ctl"]),
    ("timerfd_settime", &["timerfd_settime"]),
    ("read, recv", &["read", "readv", "recvfrom", "recvmsg"]),
    ("write, send", &["write", "writev", "sendto", "sendmsg"]),
    ("futex", &["futex"]),
];
