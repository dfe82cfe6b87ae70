//! What the model sees of hub.rs.

use std::rc::Rc;

use calloop::RegistrationToken;
use calloop::ping::Ping;

use super::*;
use crate::model::socket::{flags, small};

/// A hub whose loop is the model's.
pub(crate) struct ModelHub {
    pub(crate) hub: Rc<Hub>,
    /// What the loop keeps of the sockets. Each keeps the hub: to be cleared in the end.
    sources: Rc<RefCell<Vec<SocketSource>>>,
}

/// Where a loop would be.
struct Nowhere {
    token: RegistrationToken,
    timers: Rc<Timers>,
    sources: Rc<RefCell<Vec<SocketSource>>>,
}

impl Reach for Nowhere {
    fn insert(&self, source: SocketSource) -> crate::Result<RegistrationToken> {
        self.sources.borrow_mut().push(source);
        Ok(self.token)
    }

    fn remove(&self, _: RegistrationToken) {}

    fn update(&self, _: RegistrationToken) {
        self.timers.arm();
    }
}

impl ModelHub {
    pub(crate) fn new(ping: Ping, token: RegistrationToken) -> Self {
        let (timers, sources) = (Rc::<Timers>::default(), Rc::<RefCell<_>>::default());
        let reach = Nowhere { token, timers: Rc::clone(&timers), sources: Rc::clone(&sources) };
        let hub = Rc::new(Hub {
            reach: Box::new(reach),
            timers,
            timer: OnceCell::from(token),
            turn: Turn::default(),
            members: RefCell::default(),
            debtors: RefCell::default(),
            husks: RefCell::default(),
            asleep: Cell::new(false),
            ping,
            shut_down: Cell::new(false),
            gone: Cell::new(false),
        });
        Self { hub, sources }
    }

    /// Before the poll: answers whether there is a synthetic event.
    pub(crate) fn before_sleep(&self) -> bool {
        self.hub.before_sleep()
    }

    /// After the poll.
    pub(crate) fn awake(&self) {
        self.hub.asleep.set(false);
    }

    /// The synthetic event.
    pub(crate) fn act(&self) {
        self.hub.act();
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.hub.timers
    }

    /// The loop is dropped, with all its sources.
    pub(crate) fn gone(&self) {
        self.hub.end();
        let sources = self.sources.take();
        drop(sources);
    }

    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        let hub = &self.hub;
        out.push(flags([hub.asleep.get(), hub.shut_down.get(), hub.gone.get()]));
        out.extend([small(hub.debtors.borrow().len()), small(hub.husks.borrow().len())]);
        hub.timers.print(out);
    }
}
