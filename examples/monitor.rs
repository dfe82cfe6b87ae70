//! Watching connections: a server that says who comes and goes, and a client that waits for its server, sees it go, and
//! finds it again after a restart.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Rep, Req};
use calloop_zmq::{AsyncZmqContext, Monitor, MonitorEvent};
use futures::TryStreamExt;

const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| {
        if let Err(error) = ended {
            eprintln!("a watch failed: {error}");
        }
    })?;

    let visits = async {
        let server = context.socket::<Rep>()?;
        // Before `bind`: it tells what happens from then on. Its task ends with the server.
        scheduler.schedule(watch(server.monitor()?)).map_err(|_| calloop_zmq::Error::LoopGone)?;
        let endpoint = server.bind("tcp://127.0.0.1:*")?;

        let client = context.socket::<Req>()?;
        client.get_ref().set_reconnect_ivl(10)?;
        let mut connection = client.monitor()?;
        client.connect(&endpoint)?;
        println!("client: connected to {}", connection.connected().await?);

        drop(server);
        while connection.peers() > 0 {
            connection.try_next().await?;
        }
        println!("client: the server is gone");
        let server = context.socket::<Rep>()?;
        while server.bind(&endpoint).is_err() {
            // libzmq closes the old one's listener on its own thread.
            context.sleep(Duration::from_millis(1)).await;
        }
        connection.wait_for_peers(1).await?;
        println!("client: the server is back");

        let (reply, answered) = futures::join!(client.request("still there?"), async {
            let question = server.recv().await?;
            server.send(question).await?;
            calloop_zmq::Result::Ok(())
        });
        println!("client: the server says {:?}", reply?[0].as_str().unwrap_or_default());
        answered
    };
    event_loop.block_on(context.timeout(DEADLINE, visits), &mut (), |()| {})?.transpose()?.transpose()?;
    Ok(())
}

/// Tells what happens to a socket, until it is closed.
async fn watch(mut monitor: Monitor) -> calloop_zmq::Result<()> {
    while let Some(event) = monitor.try_next().await? {
        match event {
            MonitorEvent::Listening { endpoint, .. } => println!("server: listening at {endpoint}"),
            MonitorEvent::Accepted { fd, .. } => println!("server: somebody came, connection {fd}"),
            MonitorEvent::HandshakeSucceeded { .. } => println!("server: it is a peer; {} now", monitor.peers()),
            MonitorEvent::HandshakeFailed { .. } => println!("server: it is no peer"),
            MonitorEvent::HandshakeFailedProtocol { reason, .. } => println!("server: it is no peer: {reason}"),
            MonitorEvent::Disconnected { fd, .. } => println!("server: connection {fd} is gone"),
            MonitorEvent::Stopped => println!("server: closed"),
            event => println!("server: {event:?}"),
        }
    }
    Ok(())
}
