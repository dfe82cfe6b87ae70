//! Request and reply, the first program of ZeroMQ's guide: a REQ asks, a REP answers, and they take turns.
//!
//! For a client that does not wait for ever, see `lazy_pirate`.

use std::error::Error;
use std::pin::pin;

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::{Rep, Req};
use futures::future::select;

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (server, client) = (context.socket::<Rep>()?, context.socket::<Req>()?);
    client.connect(&server.bind("tcp://127.0.0.1:*")?)?;

    let serve = async {
        loop {
            let request = server.recv().await?;
            let name = request[0].as_str().unwrap_or("whoever you are");
            server.send(format!("hello, {name}")).await?;
        }
    };
    let ask = async {
        for name in ["Ada", "Grace", "Barbara"] {
            let reply = client.request(name).await?;
            println!("{name} was told: {}", reply[0].as_str().unwrap_or("(not text)"));
        }
        Ok(())
    };
    // The client ends, and with it the wait; the server ends by an error alone.
    let first = async { select(pin!(serve), pin!(ask)).await.factor_first().0 };
    let outcome: Option<calloop_zmq::Result<()>> = event_loop.block_on(first, &mut (), |()| {})?;
    outcome.transpose()?;
    Ok(())
}
