//! What `Tasks` has in the loop goes when nobody needs it any more: in a process of its own, for its descriptors are
//! counted.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::Tasks;
use support::now;

#[test]
fn the_source_goes_with_the_last_task_and_handle() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let (handle, none) = (event_loop.handle(), descriptors());
    let mut settle = || {
        for _ in 0..5 {
            event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        }
        descriptors() - none
    };
    for rounds in 0..3 {
        // Without a task.
        let tasks = Tasks::new(&handle).unwrap();
        let other = tasks.clone();
        assert_eq!(settle(), 1, "the ping's");
        drop(tasks);
        assert_eq!(settle(), 1, "in round {rounds}");
        // With one.
        let waker = Rc::new(RefCell::new(None::<Waker>));
        let slot = Rc::clone(&waker);
        let task = other.spawn(poll_fn(move |cx| {
            if slot.replace(Some(cx.waker().clone())).is_some() { Poll::Ready(7) } else { Poll::Pending }
        }));
        drop(other);
        assert_eq!(settle(), 1, "in round {rounds}");
        waker.borrow().as_ref().unwrap().wake_by_ref();
        settle();
        // A waker may be woken, so the ping stays; but the loop does no more for it.
        assert_eq!(settle(), 1, "in round {rounds}");
        waker.take();
        assert_eq!(settle(), 1, "in round {rounds}");
        assert_eq!(now(task).unwrap(), 7);
        assert_eq!(settle(), 0, "in round {rounds}");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
