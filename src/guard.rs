//! Set-ups with which libzmq would abort the process, stall for ever, or do something else than was asked: refused before
//! libzmq sees them.
//!
//! Options are set on the bare socket, where nobody looks. But libzmq uses what they are at the `bind` or `connect`, and
//! that goes through here.

use std::fs::File;

use crate::endpoint::{EndpointCall, EndpointError, NoEndpoint, has_impossible_port};
use crate::error::SetupError;
use crate::ffi::{self, Errno};

/// Refuses what must not reach libzmq, or takes away what it would stumble over. Whatever else is wrong, it says itself.
pub(crate) fn prepare(socket: &ffi::Socket, call: EndpointCall, endpoint: &str) -> crate::Result<()> {
    let failed = |errno: Errno| errno.error(call.of(endpoint));
    match call {
        EndpointCall::Bind | EndpointCall::Connect => {}
        EndpointCall::Disconnect if socket.is_half_received().map_err(failed)? => {
            return Err(SetupError::HalfReceived.into());
        }
        EndpointCall::Disconnect if begins_by_itself(socket.kind().map_err(failed)?) => {
            return socket.finish_begun().map_err(failed);
        }
        EndpointCall::Unbind | EndpointCall::Disconnect => return Ok(()),
    }
    if has_impossible_port(endpoint) {
        return Err(EndpointError { call, endpoint: endpoint.to_owned(), reason: NoEndpoint::Port }.into());
    }
    if endpoint == ZAP_ENDPOINT && matches!(call, EndpointCall::Bind) {
        let actual = socket.kind().map_err(failed)?;
        if !matches!(actual, zmq::REP | zmq::ROUTER) {
            return Err(SetupError::HandlerKind { actual }.into());
        }
    }
    // Within the process nobody is asked about anybody.
    if endpoint.starts_with("inproc://") {
        return Ok(());
    }
    // To bind to an address, libzmq looks through the network interfaces, where its build knows how to. That takes a
    // descriptor, and without one it aborts. Another thread may still be faster.
    if let (EndpointCall::Bind, Err(error)) = (call, File::open("/")) {
        if let Some(errno) = Errno::of_descriptors(&error) {
            return Err(failed(errno));
        }
    }
    let actual = socket.kind().map_err(failed)?;
    let immediate = matches!(call, EndpointCall::Connect) && socket.note_immediate().map_err(failed)?;
    if immediate && begins_by_itself(actual) && actual != zmq::STREAM {
        // With it libzmq drops a lost connection with all that is in it, also in the middle of a message.
        return Err(SetupError::ImmediateReceiver { actual }.into());
    }
    let security = socket.security().map_err(failed)?;
    if security.plain_server && security.enforces_domain && !security.has_domain {
        return Err(SetupError::PlainWithoutDomain.into());
    }
    if security.asks() && security.rcvhwm == 1 {
        return Err(SetupError::NoRoomForUserId.into());
    }
    Ok(())
}

/// True for the kinds that may be in the middle of a message once they were asked whether there is one.
fn begins_by_itself(kind: zmq::SocketType) -> bool {
    matches!(kind, zmq::SUB | zmq::XSUB | zmq::ROUTER | zmq::REP | zmq::STREAM)
}

/// Where libzmq asks who may connect (RFC 27).
pub(crate) const ZAP_ENDPOINT: &str = "inproc://zeromq.zap.01";
