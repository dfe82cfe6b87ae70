//! The two directions of a socket, and what libzmq says of them.

/// What one read of `ZMQ_EVENTS` said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Events {
    pub(crate) fn only(direction: Direction) -> Self {
        Self { readable: direction == Direction::Read, writable: direction == Direction::Write }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { readable: self.readable || other.readable, writable: self.writable || other.writable }
    }

    pub(crate) fn has(self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Direction = Direction::Read;
    const WRITE: Direction = Direction::Write;
    const IN: Events = Events { readable: true, writable: false };
    const OUT: Events = Events { readable: false, writable: true };
    const NOTHING: Events = Events { readable: false, writable: false };

    #[test]
    fn events_add_up_by_direction() {
        assert_eq!([READ, WRITE].map(Events::only), [IN, OUT]);
        assert_eq!([NOTHING.and(IN), NOTHING.and(OUT), IN.and(NOTHING), OUT.and(NOTHING)], [IN, OUT, IN, OUT]);
        assert_eq!(
            [IN, OUT, NOTHING].map(|events| [READ, WRITE].map(|direction| events.has(direction))),
            [[true, false], [false, true], [false, false],]
        );
    }
}
