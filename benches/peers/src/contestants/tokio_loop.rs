//! tokio's loop in the current thread, and a timer in it, for the contestants that run there.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Measured;
use crate::course::Beat;

pub fn run(main: impl Future<Output = Measured>) -> Option<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Some(runtime.block_on(main))
}

/// Ticks and tells how late each tick was.
pub async fn beat(late: Rc<RefCell<Beat>>) {
    let mut interval = interval(Beat::PERIOD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = interval.tick().await;
        late.borrow_mut().push(Instant::now().saturating_duration_since(due.into_std()));
    }
}
