//! Who runs the tasks: calloop's executor, the crate's own, or one whose wakers run the task at once.
//!
//! The third one is allowed to do what it does, and few would: it polls a task inside `wake`, that is, in the middle of
//! somebody else's operation, or in its own `before_sleep`, after the hub has looked. Which of them, the dice say.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;

use async_task::{Runnable, Task};
use calloop::futures::Scheduler;
use calloop::{EventLoop, EventSource, Poll, PostAction, Readiness, Token, TokenFactory};

use super::dice::Dice;
use crate::Tasks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Calloop,
    Tasks,
    AtOnce,
}

#[derive(Clone)]
pub(super) enum Executor {
    Calloop(Scheduler<()>),
    Tasks(Tasks),
    AtOnce(Rc<RefCell<Vec<Task<()>>>>),
}

impl Executor {
    /// To be called after the context was made: this one's `before_sleep` shall come after the hub's.
    pub(super) fn new(kind: Kind, event_loop: &EventLoop<'static, ()>, dice: &Dice) -> Self {
        let handle = event_loop.handle();
        match kind {
            Kind::Calloop => {
                let (executor, scheduler) = calloop::futures::executor().unwrap();
                handle.insert_source(executor, |(), (), ()| {}).unwrap();
                Self::Calloop(scheduler)
            }
            Kind::Tasks => Self::Tasks(Tasks::new(&handle).unwrap()),
            Kind::AtOnce => {
                DICE.set(Some(Dice::new(dice.next())));
                handle.insert_source(AtOnce { token: None }, |_, (), ()| {}).unwrap();
                Self::AtOnce(Rc::default())
            }
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        match self {
            Self::Calloop(scheduler) => scheduler.schedule(task).unwrap(),
            Self::Tasks(tasks) => drop(tasks.spawn(task)),
            Self::AtOnce(tasks) => {
                let (runnable, task) = async_task::spawn_local(task, schedule);
                tasks.borrow_mut().push(task);
                READY.with_borrow_mut(|ready| ready.push(runnable));
            }
        }
    }

    /// Drops the tasks. With the other two, the loop does.
    pub(super) fn end(&self) {
        if let Self::AtOnce(tasks) = self {
            let tasks = tasks.take();
            drop(tasks);
            while let Some(runnable) = READY.with_borrow_mut(Vec::pop) {
                runnable.run();
            }
        }
    }
}

thread_local! {
    static READY: RefCell<Vec<Runnable>> = const { RefCell::new(Vec::new()) };
    static DEPTH: Cell<u64> = const { Cell::new(0) };
    static DICE: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

fn coin() -> bool {
    DICE.with_borrow(|dice| dice.as_ref().is_some_and(|dice| dice.one_in(2)))
}

fn schedule(runnable: Runnable) {
    if DEPTH.get() < DEEPEST && coin() {
        DEPTH.set(DEPTH.get() + 1);
        runnable.run();
        DEPTH.set(DEPTH.get() - 1);
    } else {
        READY.with_borrow_mut(|ready| ready.push(runnable));
    }
}

/// Runs one of those that are ready, whichever.
fn run_one() -> bool {
    let picked = READY.with_borrow_mut(|ready| {
        let count = u64::try_from(ready.len()).unwrap();
        let at = DICE.with_borrow(|dice| dice.as_ref().filter(|_| count > 0).map(|dice| dice.below(count)));
        at.map(|at| ready.swap_remove(usize::try_from(at).unwrap()))
    });
    picked.map(Runnable::run).is_some()
}

/// Runs what was not run at once.
struct AtOnce {
    token: Option<Token>,
}

impl EventSource for AtOnce {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(&mut self, _: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut(Infallible, &mut ()),
    {
        if self.token == Some(token) {
            let mut left = READY.with_borrow(Vec::len);
            while left > 0 && run_one() {
                left -= 1;
            }
        }
        Ok(PostAction::Continue)
    }

    fn register(&mut self, _: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.token = Some(factory.token());
        Ok(())
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.register(poll, factory)
    }

    fn unregister(&mut self, _: &mut Poll) -> calloop::Result<()> {
        self.token = None;
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        while coin() && run_one() {}
        let ready = Readiness { readable: true, writable: false, error: false };
        Ok(self.token.filter(|_| READY.with_borrow(|tasks| !tasks.is_empty())).map(|token| (ready, token)))
    }
}

/// Tasks that run each other: the next one waits for its turn.
const DEEPEST: u64 = 4;
