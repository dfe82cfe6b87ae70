//! How much of one turn of the loop a socket gives its tasks.
//!
//! A task under a flood never has to wait, so it would hold up the loop for as long as messages come. After a while it
//! is parked until the next turn, whether there is a message or not. A turn costs several system calls, so a short
//! while is dear where messages are cheap; and a number of messages says nothing where a task works on each. Hence
//! time decides, unless the user set a number.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::events::Direction;

/// The turn of the loop, for all sockets of a context.
#[derive(Debug)]
pub(crate) struct Turn {
    number: Cell<u64>,
    /// Directions of sockets in which tasks took more than one message in this turn.
    busy: Cell<u32>,
    /// What each of them gets.
    share: Cell<Duration>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { number: Cell::new(0), busy: Cell::new(0), share: Cell::new(ALL_TOGETHER) }
    }
}

impl Turn {
    /// The next turn begins. It is shared out among as many as were busy in the last one.
    pub(crate) fn next(&self) {
        self.number.set(self.number.get() + 1);
        let busy = self.busy.take().max(1);
        self.share.set((ALL_TOGETHER / busy).max(SMALLEST_SHARE));
    }
}

/// The budget of one socket.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// If the user set it, it decides.
    messages: Cell<Option<NonZeroUsize>>,
    /// What follows is of this turn.
    turn: Cell<u64>,
    read: Spent,
    /// Apart: a flood of messages in must not keep the replies from going out.
    write: Spent,
}

/// What one direction has used up.
#[derive(Debug, Default)]
struct Spent {
    messages: Cell<usize>,
    /// Somebody asked whether there is one, and nobody has taken one since.
    asked: Cell<bool>,
    /// When somebody asked for a second message.
    since: Cell<Option<Instant>>,
    time_is_up: Cell<bool>,
}

impl Budget {
    pub(crate) fn set(&self, messages: NonZeroUsize) {
        self.messages.set(Some(messages));
    }

    /// True if a task may have one more message.
    #[inline]
    pub(crate) fn has(&self, direction: Direction, turn: &Turn) -> bool {
        if self.turn.get() != turn.number.get() {
            return true;
        }
        let spent = self.spent(direction);
        match self.messages.get() {
            Some(messages) => spent.messages.get() < messages.get(),
            None => !spent.time_is_up.get() && (!asks_the_clock(spent.messages.get()) || spent.has_time(turn)),
        }
    }

    #[inline]
    pub(crate) fn spend(&self, direction: Direction, turn: &Turn) {
        let spent = self.spent_in(direction, turn);
        spent.asked.set(false);
        spent.add();
    }

    /// A task asked whether there is a message, or room for one, and was told that there is. If it asks again and takes
    /// none, that counts as one: it might go on so for ever.
    pub(crate) fn ask(&self, direction: Direction, turn: &Turn) {
        let spent = self.spent_in(direction, turn);
        if spent.asked.replace(true) {
            spent.add();
        }
    }

    #[inline]
    fn spent_in(&self, direction: Direction, turn: &Turn) -> &Spent {
        let number = turn.number.get();
        if self.turn.replace(number) != number {
            self.read.reset();
            self.write.reset();
        }
        self.spent(direction)
    }

    #[inline]
    fn spent(&self, direction: Direction) -> &Spent {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

impl Spent {
    #[inline]
    fn add(&self) {
        self.messages.set(self.messages.get() + 1);
    }

    fn reset(&self) {
        self.messages.set(0);
        self.asked.set(false);
        self.since.set(None);
        self.time_is_up.set(false);
    }

    #[cold]
    fn has_time(&self, turn: &Turn) -> bool {
        let Some(since) = self.since.get() else {
            self.since.set(Some(Instant::now()));
            turn.busy.set(turn.busy.get() + 1);
            return true;
        };
        let has_time = since.elapsed() < turn.share.get();
        self.time_is_up.set(!has_time);
        has_time
    }
}

/// Often enough to notice early that a task works hard on each message, and seldom enough to cost nothing.
#[inline]
fn asks_the_clock(spent: usize) -> bool {
    spent.is_power_of_two() || spent != 0 && spent % 64 == 0
}

/// How long all sockets of a context together may hold up the loop in one turn.
const ALL_TOGETHER: Duration = Duration::from_micros(500);

/// A turn of the loop itself takes some microseconds.
const SMALLEST_SHARE: Duration = Duration::from_micros(10);

#[cfg(test)]
#[path = "model/inside/budget.rs"]
pub(crate) mod inside;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes messages until the budget is used up, or `most` of them.
    fn take(budget: &Budget, direction: Direction, turn: &Turn, most: usize) -> usize {
        (0..most)
            .take_while(|_| {
                let has = budget.has(direction, turn);
                if has {
                    budget.spend(direction, turn);
                }
                has
            })
            .count()
    }

    #[test]
    fn a_number_holds_for_each_direction_and_each_turn() {
        let (budget, turn) = (Budget::default(), Turn::default());
        budget.set(NonZeroUsize::new(10).unwrap());
        for _ in 0..3 {
            turn.next();
            assert_eq!(take(&budget, Direction::Read, &turn, 100), 10);
            assert_eq!(take(&budget, Direction::Write, &turn, 100), 10);
            assert_eq!(take(&budget, Direction::Read, &turn, 100), 0);
        }
    }

    #[test]
    fn time_is_asked_for_early_and_what_is_up_stays_up() {
        let (budget, turn) = (Budget::default(), Turn::default());
        for _ in 0..3 {
            turn.next();
            turn.share.set(Duration::ZERO);
            // The clock is read for the first time before the second message, and then before the third.
            assert_eq!(take(&budget, Direction::Read, &turn, 100), 2);
            // Somebody who has no need to ask takes one.
            budget.spend(Direction::Read, &turn);
            assert!(!budget.has(Direction::Read, &turn));
            assert_eq!(take(&budget, Direction::Write, &turn, 100), 2, "the other direction has its own");
        }
    }

    #[test]
    fn who_asks_and_takes_spends_one_and_who_only_asks_spends_too() {
        let (budget, turn) = (Budget::default(), Turn::default());
        budget.set(NonZeroUsize::new(10).unwrap());
        for takes in [true, false] {
            turn.next();
            let mut asked = 0;
            while budget.has(Direction::Read, &turn) && asked < 100 {
                asked += 1;
                budget.ask(Direction::Read, &turn);
                if takes {
                    budget.spend(Direction::Read, &turn);
                }
            }
            assert_eq!(asked, if takes { 10 } else { 11 });
        }
    }

    #[test]
    fn the_clock_is_asked_early_and_then_once_in_64_messages() {
        assert!((0..300).filter(|spent| asks_the_clock(*spent)).eq([1, 2, 4, 8, 16, 32, 64, 128, 192, 256]));
    }

    #[test]
    fn with_time_left_there_is_no_end() {
        let (budget, turn) = (Budget::default(), Turn::default());
        turn.share.set(Duration::from_secs(3600));
        assert_eq!(take(&budget, Direction::Read, &turn, 1_000_000), 1_000_000);
    }

    #[test]
    fn the_time_of_a_turn_is_shared_among_those_that_were_busy_in_the_last() {
        let turn = Turn::default();
        let budgets: Vec<Budget> = (0..4).map(|_| Budget::default()).collect();
        // One that takes a single message is not busy.
        take(&budgets[3], Direction::Read, &turn, 1);
        for budget in &budgets[..2] {
            take(budget, Direction::Read, &turn, 2);
        }
        turn.next();
        assert_eq!(turn.share.get(), ALL_TOGETHER / 2);
        turn.next();
        assert_eq!(turn.share.get(), ALL_TOGETHER);
        turn.busy.set(1_000_000);
        turn.next();
        assert_eq!(turn.share.get(), SMALLEST_SHARE);
    }
}
