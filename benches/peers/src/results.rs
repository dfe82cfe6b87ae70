//! What the rounds gave, as it goes into results.json.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Measured;
use crate::contestant::Contestant;
use crate::machine::Machine;
use crate::rounds::Outcome;
use crate::workload::{Unit, Workload};

#[derive(Serialize)]
pub struct Results {
    pub machine: Machine,
    pub rounds: usize,
    /// How long all of it took.
    pub seconds: u64,
    pub rows: Vec<Row>,
    pub calls: Vec<Calls>,
}

/// One contestant in one workload; medians over the rounds.
#[derive(Serialize)]
pub struct Row {
    pub workload: String,
    pub contestant: &'static str,
    /// "messages/s", or nanoseconds of what.
    pub unit: &'static str,
    pub value: Option<f64>,
    /// Of round trips.
    pub p99: Option<f64>,
    /// Its speed to that of blocking libzmq in the same round: above 1 it is faster, whatever the unit.
    pub speed: Option<f64>,
    /// CPU seconds for a million messages, of the thread that runs the contestant.
    pub cpu_loop: Option<f64>,
    /// The same of all its threads, and libzmq's.
    pub cpu_all: Option<f64>,
    /// For each message, in that thread.
    pub allocations: Option<f64>,
    /// Why there is nothing, or not from all rounds.
    pub remark: Option<&'static str>,
    /// The value in each round.
    pub values: Vec<f64>,
    #[serde(skip)]
    pub of: (Workload, Contestant),
}

/// System calls of the thread that runs the contestant, for each message.
#[derive(Serialize)]
pub struct Calls {
    pub workload: String,
    pub contestant: &'static str,
    pub calls: BTreeMap<String, f64>,
    #[serde(skip)]
    pub by: Contestant,
}

impl Row {
    pub fn new(workload: &Workload, contestant: Contestant, outcomes: &[Outcome], baseline: &[Outcome]) -> Self {
        let unit = workload.unit();
        let measured = || outcomes.iter().filter_map(Outcome::measured);
        let values: Vec<_> = measured().map(|measured| unit.value(measured)).collect();
        let speeds = outcomes.iter().zip(baseline).filter_map(|(own, base)| {
            let (own, base) = (unit.value(own.measured()?), unit.value(base.measured()?));
            Some(if unit == Unit::Rate { own / base } else { base / own })
        });
        let has_costs = unit != Unit::Delay;
        let each = |cost: fn(&Measured) -> Option<f64>| {
            let costs = measured().filter(|_| has_costs).filter_map(|run| Some(cost(run)? / run.messages as f64));
            median(costs)
        };
        let remark = outcomes.last().and_then(|outcome| match outcome {
            Outcome::Measured(_) => None,
            Outcome::Unable => Some("not possible"),
            Outcome::Stalled => Some("stalls"),
            Outcome::Failed => Some("fails"),
        });
        Self {
            workload: workload.to_string(),
            contestant: contestant.name(),
            unit: unit.name(),
            value: median(values.iter().copied()),
            p99: median(measured().filter(|_| unit == Unit::Latency).filter_map(|run| Some(run.percentiles?.p99))),
            speed: median(speeds),
            cpu_loop: each(|run| Some(run.cpu_loop * 1e6)),
            cpu_all: each(|run| Some(run.cpu_all * 1e6)),
            allocations: each(|run| Some(run.allocations? as f64)),
            remark,
            values,
            of: (workload.clone(), contestant),
        }
    }
}

impl Outcome {
    pub fn measured(&self) -> Option<&Measured> {
        if let Self::Measured(measured) = self { Some(measured) } else { None }
    }
}

impl Unit {
    fn value(self, measured: &Measured) -> f64 {
        let percentiles = || measured.percentiles.expect("this workload takes each time");
        match self {
            Self::Rate => measured.messages as f64 / measured.seconds,
            Self::Latency => percentiles().median,
            Self::Delay => percentiles().p99,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::Latency => "ns, median round trip",
            Self::Delay => "ns late, 99th percentile",
        }
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
