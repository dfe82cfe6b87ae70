//! Who is connected, counted from a monitor's events. Pure.
//!
//! A handshake's event names the endpoint only, and all the connections that a bound endpoint accepted share that. So it
//! is a guess whose handshake it was if several are under way. It is the newest: an older one may be a peer that will
//! never shake hands. When a connection ends, an event that its handshake failed comes before, and that tells: a
//! connection thought to be a peer's was not, and one of the others is.

use std::os::fd::RawFd;

use crate::monitor_event::MonitorEvent;

#[derive(Debug)]
pub(crate) struct Peers {
    /// A STREAM's peers shake no hands: the connection is all.
    without_handshake: bool,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    endpoint: String,
    /// `None`: it stood when the monitor began.
    fd: Option<RawFd>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Failed,
    Peer,
}

impl Peers {
    pub(crate) fn new(without_handshake: bool) -> Self {
        Self { without_handshake, connections: Vec::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.iter().filter(|connection| connection.phase == Phase::Peer).count()
    }

    /// True if the event brings a new peer.
    pub(crate) fn is_arrival(&self, event: &MonitorEvent) -> bool {
        match event {
            MonitorEvent::Connected { .. } | MonitorEvent::Accepted { .. } => self.without_handshake,
            MonitorEvent::HandshakeSucceeded { .. } => true,
            _ => false,
        }
    }

    /// Takes an event in.
    pub(crate) fn update(&mut self, event: &MonitorEvent) {
        match event {
            MonitorEvent::Connected { endpoint, fd } | MonitorEvent::Accepted { endpoint, fd } => {
                // Nothing tells of a connection that this side ended. But its number is free for another one.
                self.connections.retain(|connection| connection.fd != Some(*fd));
                let phase = if self.without_handshake { Phase::Peer } else { Phase::Handshake };
                self.connections.push(Connection { endpoint: endpoint.clone(), fd: Some(*fd), phase });
            }
            MonitorEvent::HandshakeSucceeded { endpoint } => {
                let known = self.change(endpoint, Phase::Handshake, Phase::Peer);
                if !known {
                    self.connections.push(Connection { endpoint: endpoint.clone(), fd: None, phase: Phase::Peer });
                }
            }
            MonitorEvent::HandshakeFailed { endpoint, .. }
            | MonitorEvent::HandshakeFailedProtocol { endpoint, .. }
            | MonitorEvent::HandshakeFailedAuth { endpoint, .. } => {
                self.change(endpoint, Phase::Handshake, Phase::Failed);
            }
            // A listener takes those that it accepted with it, and nothing tells of them.
            MonitorEvent::Closed { endpoint, .. } => {
                self.connections.retain(|connection| connection.endpoint != *endpoint);
            }
            MonitorEvent::Disconnected { endpoint, fd } => {
                self.remove(endpoint, *fd);
            }
            _ => {}
        }
    }

    fn remove(&mut self, endpoint: &str, fd: RawFd) {
        let known = self.connections.iter().position(|it| it.fd == Some(fd));
        let at = known.or_else(|| self.connections.iter().position(|it| it.fd.is_none() && it.endpoint == endpoint));
        let Some(at) = at else { return };
        let gone = self.connections.remove(at);
        if gone.phase != Phase::Failed {
            // If one has failed, it is this one; and what was thought of this one is true of the other.
            self.change(endpoint, Phase::Failed, gone.phase);
        }
    }

    /// Changes the phase of the newest connection of the endpoint that is in it, if there is one.
    fn change(&mut self, endpoint: &str, from: Phase, to: Phase) -> bool {
        let newest = self.connections.iter_mut().rev().find(|it| it.phase == from && it.endpoint == endpoint);
        newest.map(|connection| connection.phase = to).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn accepted(fd: RawFd) -> MonitorEvent {
        MonitorEvent::Accepted { endpoint: "tcp://x".to_owned(), fd }
    }

    fn succeeded() -> MonitorEvent {
        MonitorEvent::HandshakeSucceeded { endpoint: "tcp://x".to_owned() }
    }

    fn failed() -> MonitorEvent {
        MonitorEvent::HandshakeFailed { endpoint: "tcp://x".to_owned(), error: Error::EmptyMessage }
    }

    fn disconnected(fd: RawFd) -> MonitorEvent {
        MonitorEvent::Disconnected { endpoint: "tcp://x".to_owned(), fd }
    }

    /// The count after each event.
    fn counts(peers: &mut Peers, events: &[MonitorEvent]) -> Vec<usize> {
        let after = |event| {
            peers.update(event);
            peers.count()
        };
        events.iter().map(after).collect()
    }

    #[test]
    fn a_peer_counts_from_its_handshake_to_its_end() {
        let mut peers = Peers::new(false);
        let events = [accepted(5), succeeded(), accepted(6), succeeded(), disconnected(5), disconnected(6)];
        assert_eq!(counts(&mut peers, &events), [0, 1, 1, 2, 1, 0]);
        assert!(peers.connections.is_empty());
    }

    #[test]
    fn a_connection_that_never_shook_hands_takes_no_peer_with_it() {
        let mut peers = Peers::new(false);
        // Some failures have an event, some have none.
        let events = [accepted(5), succeeded(), accepted(6), failed(), disconnected(6), accepted(7), disconnected(7)];
        assert_eq!(counts(&mut peers, &events), [0, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn an_event_of_a_failure_tells_whose_handshake_it_was() {
        // 5 shook hands, and 6 is thought to have; then 6 fails. And the other way round.
        for (first, second) in [(5, 6), (6, 5)] {
            let mut peers = Peers::new(false);
            let events = [accepted(5), accepted(6), succeeded(), failed(), disconnected(second), disconnected(first)];
            assert_eq!(counts(&mut peers, &events), [0, 0, 1, 1, 1, 0], "{second} fails");
        }
    }

    #[test]
    fn an_old_connection_that_says_nothing_is_not_taken_for_the_peer() {
        let mut peers = Peers::new(false);
        let events = [accepted(5), accepted(6), succeeded(), disconnected(5), disconnected(6)];
        assert_eq!(counts(&mut peers, &events), [0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_descriptor_that_comes_again_tells_of_a_silent_end() {
        let mut peers = Peers::new(false);
        assert_eq!(counts(&mut peers, &[accepted(5), succeeded(), accepted(5), succeeded()]), [0, 1, 0, 1]);
    }

    #[test]
    fn a_listener_takes_its_connections_with_it() {
        let mut peers = Peers::new(false);
        let closed = |endpoint: &str| MonitorEvent::Closed { endpoint: endpoint.to_owned(), fd: 3 };
        let events = [accepted(5), succeeded(), accepted(6), closed("tcp://y"), closed("tcp://x")];
        assert_eq!(counts(&mut peers, &events), [0, 1, 1, 1, 0]);
    }

    #[test]
    fn what_was_there_before_the_monitor() {
        let mut peers = Peers::new(false);
        // A peer of before that goes does not count; one in its handshake counts when that is done.
        let events = [disconnected(4), succeeded(), accepted(6), succeeded(), disconnected(6), disconnected(5)];
        assert_eq!(counts(&mut peers, &events), [0, 1, 1, 2, 1, 0]);
    }

    #[test]
    fn a_peer_that_shakes_no_hands_counts_with_its_connection() {
        let mut peers = Peers::new(true);
        assert!(peers.is_arrival(&accepted(5)) && !Peers::new(false).is_arrival(&accepted(5)));
        assert_eq!(counts(&mut peers, &[accepted(5), accepted(6), failed(), disconnected(5)]), [1, 2, 2, 1]);
    }
}
