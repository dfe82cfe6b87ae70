//! One end of one load: where its sockets and tasks are made.

use std::rc::Rc;
use std::time::Duration;

use calloop_zmq::kind::{CanRecv, CanSend, Kind};
use calloop_zmq::{AsyncZmqSocket, MonitorEvent, zmq};
use futures::StreamExt;

use crate::ledger::Terms;
use crate::side::{Phase, Side, Style, count};

#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) load: String,
    /// To bind, or that was bound.
    pub(crate) endpoint: String,
}

impl Place {
    /// A socket with queues of so many messages; `None` leaves libzmq's default.
    pub(crate) fn open<K: Kind>(&self, high_water_mark: Option<i32>) -> calloop_zmq::Result<Rc<AsyncZmqSocket<K>>> {
        let socket = self.side.context.socket::<K>()?;
        if let Some(mark) = high_water_mark {
            socket.get_ref().set_sndhwm(mark)?;
            socket.get_ref().set_rcvhwm(mark)?;
        }
        socket.get_ref().set_reconnect_ivl(5)?;
        Ok(Rc::new(socket))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = calloop_zmq::Result<()>> + 'static) {
        self.side.spawn(&self.load, task);
    }

    /// A task that sends.
    pub(crate) fn talk<K: CanSend>(
        &self,
        socket: &Rc<AsyncZmqSocket<K>>,
        style: Style,
        envelope: Option<Vec<u8>>,
        terms: Terms,
    ) {
        let (place, socket) = (self.clone(), Rc::clone(socket));
        let lane = self.side.shared.ledger.open(&self.load, terms);
        self.keep(&socket);
        self.spawn(async move { place.side.send_all(&place.load, lane, &socket, style, envelope).await });
    }

    /// A task that receives. So many frames in front of each message are its envelope.
    pub(crate) fn listen<K: CanRecv>(&self, socket: &Rc<AsyncZmqSocket<K>>, style: Style, envelope: usize) {
        let (place, socket) = (self.clone(), Rc::clone(socket));
        self.keep(&socket);
        self.spawn(async move { place.side.recv_all(&place.load, &socket, style, envelope).await });
    }

    /// A task that keeps the socket to the end: one that is closed before may lose the last of what it sent, whatever its
    /// linger, if the kernel's buffer was full. If the draining does not end, tells how the socket is; what may repair it
    /// comes last.
    pub(crate) fn keep<K: Kind>(&self, socket: &Rc<AsyncZmqSocket<K>>) {
        let (place, socket) = (self.clone(), Rc::clone(socket));
        self.spawn(async move {
            let mut drained_for = 0;
            while place.side.shared.phase() != Phase::Closing {
                place.side.context.sleep(Duration::from_millis(100)).await;
                drained_for += u32::from(place.side.shared.phase() == Phase::Draining);
                if drained_for != 100 {
                    continue;
                }
                let raw = socket.get_ref();
                let mut fd = [zmq::PollItem::from_fd(raw.get_fd()?, zmq::POLLIN)];
                let readable = zmq::poll(&mut fd, 0)?;
                let kind = raw.get_socket_type()?;
                println!("{}: {kind:?}: fd={readable}, ZMQ_EVENTS={:?}", place.load, raw.get_events()?);
            }
            Ok(())
        });
    }

    /// A task that calls the bare socket.
    pub(crate) fn meddle<K: Kind>(&self, socket: &Rc<AsyncZmqSocket<K>>) {
        let (place, socket) = (self.clone(), Rc::clone(socket));
        self.spawn(async move { place.side.meddle(&socket).await });
    }

    /// A task that reads what happens to the socket's connections.
    pub(crate) fn watch<K: Kind>(&self, socket: &AsyncZmqSocket<K>) -> calloop_zmq::Result<()> {
        let (shared, mut monitor) = (self.side.shared.clone(), socket.monitor()?);
        self.spawn(async move {
            while let Some(event) = monitor.next().await {
                if let MonitorEvent::Stopped = event? {
                    break;
                }
                count(&shared.counts.monitor_events);
            }
            Ok(())
        });
        Ok(())
    }
}
