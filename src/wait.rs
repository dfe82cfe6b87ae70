//! What a future holds while it waits on a socket, and gives up when it is dropped.

use std::rc::Rc;
use std::task::Context;

use crate::events::Direction;
use crate::line::Ticket;
use crate::readiness::Place;
use crate::seeded::{Bug, seeded};
use crate::state::State;

/// One operation's wait.
pub(crate) struct Wait<'a> {
    state: &'a Rc<State>,
    direction: Direction,
    ticket: Option<Ticket>,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(state: &'a Rc<State>, direction: Direction) -> Self {
        Self { state, direction, ticket: None }
    }

    pub(crate) fn place(&mut self) -> Place<'_> {
        Place::Line(&mut self.ticket)
    }

    /// True if it waits in the line for this task, and has not been called.
    pub(crate) fn is_uncalled(&mut self, cx: &Context<'_>) -> bool {
        let (state, direction) = (self.state, self.direction);
        state.is_uncalled(direction, &self.place(), cx)
    }

    /// Gives its place in the line up, and its turn to the next.
    pub(crate) fn leave(&mut self) {
        let (state, direction) = (self.state, self.direction);
        state.left(direction, &mut self.place(), false);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !seeded(Bug::WakerKeptAfterCancel) {
            self.leave();
        }
    }
}

/// A wait for the end of a socket alone. It takes nobody's turn.
pub(crate) struct Standby<'a> {
    state: &'a Rc<State>,
    ticket: Option<Ticket>,
}

impl<'a> Standby<'a> {
    pub(crate) fn new(state: &'a Rc<State>) -> Self {
        Self { state, ticket: None }
    }

    /// Fails if the socket has ended. The task will be woken when it does.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> crate::Result<()> {
        self.state.stand_by(&mut self.ticket, cx)
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.state.stand_down(ticket);
        }
    }
}
