//! Where it was measured, and of what versions.

use std::collections::BTreeMap;
use std::{fs, thread};

use serde::Serialize;

use crate::contestants::pyzmq;

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    pub fn this(python: Option<&str>) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let (major, minor, patch) = zmq::version();
        let mut versions = locked(&["calloop", "calloop-zmq", "zmq", "tmq", "tokio", "async_zmq", "zeromq"]);
        versions.insert("libzmq".to_owned(), format!("{major}.{minor}.{patch}"));
        if let Some(version) = python.and_then(pyzmq::version) {
            versions.insert("pyzmq".to_owned(), version);
        }
        Self {
            cpu: model.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            cores: thread::available_parallelism().map_or(1, Into::into),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            versions,
        }
    }
}

/// What Cargo.lock says of these.
fn locked(names: &[&str]) -> BTreeMap<String, String> {
    let lock = include_str!("../Cargo.lock");
    let entries = lock.split("[[package]]").filter_map(|entry| {
        let field = |key| entry.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix('"'));
        Some((field("name = \"")?, field("version = \"")?))
    });
    let wanted = entries.filter(|(name, _)| names.contains(name));
    wanted.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}
