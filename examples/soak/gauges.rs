//! What the process uses, and whether that grows.

#![allow(clippy::cast_precision_loss, reason = "these are figures to look at")]

use std::fs;
use std::time::Duration;

/// Resident memory in MiB. `None` where the system does not tell.
pub(crate) fn resident() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? as f64 / 256.0)
}

/// How many descriptors are open. `None` where the system does not tell.
pub(crate) fn descriptors() -> Option<usize> {
    // One of them is the directory's own.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// What was measured when.
#[derive(Default)]
pub(crate) struct Series(Vec<(f64, f64)>);

impl Series {
    pub(crate) fn add(&mut self, at: Duration, value: f64) {
        self.0.push((at.as_secs_f64(), value));
    }

    /// By how much it grew in an hour, by the straight line through all but the first third, which warms up.
    pub(crate) fn growth_per_hour(&self) -> f64 {
        let points = &self.0[self.0.len() / 3..];
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (time, value) = (mean(|point| point.0), mean(|point| point.1));
        let (mut both, mut spread) = (0.0, 0.0);
        for point in points {
            both += (point.0 - time) * (point.1 - value);
            spread += (point.0 - time).powi(2);
        }
        if spread > 0.0 { both / spread * 3600.0 } else { 0.0 }
    }
}
