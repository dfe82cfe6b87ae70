//! Request and reply with a client that does not hang: after a timeout it asks again, and after some tries it gives up
//! (the guide's "lazy pirate"). The server here ignores the first request.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};

const TIMEOUT: Duration = Duration::from_millis(300);
const TRIES: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| {
        if let Err(error) = ended {
            eprintln!("the server failed: {error}");
        }
    })?;

    let server = context.socket::<Router>()?;
    let endpoint = server.bind("tcp://127.0.0.1:*")?;
    scheduler.schedule(serve(server))?;

    let client = async {
        for question in ["the time", "the weather"] {
            let reply = request(&context, &endpoint, question).await?;
            println!("client: {}", text(&reply));
        }
        Ok::<_, Box<dyn Error>>(())
    };
    event_loop.block_on(client, &mut (), |()| {})?.transpose()?;
    Ok(())
}

/// Asks until there is a reply. The error after the last try is the timeout's.
async fn request(context: &AsyncZmqContext, endpoint: &str, question: &str) -> Result<Multipart, Box<dyn Error>> {
    let mut attempt = 1;
    loop {
        // A REQ must have its reply before it may ask again: each try has a socket of its own.
        let client = context.socket::<Req>()?;
        // With linger 0, a request that nobody fetched goes with its socket instead of being delivered late.
        client.get_ref().set_linger(0)?;
        client.connect(endpoint)?;
        client.send(question).await?;
        match context.timeout(TIMEOUT, client.recv()).await {
            Ok(reply) => return Ok(reply?),
            Err(elapsed) if attempt == TRIES => return Err(elapsed.into()),
            Err(elapsed) => println!("client: try {attempt} for {question}: {elapsed}"),
        }
        attempt += 1;
    }
}

/// A ROUTER, because a REP must reply before it may receive again.
async fn serve(server: AsyncZmqSocket<Router>) -> calloop_zmq::Result<()> {
    let _ignored = server.recv().await?;
    println!("server: ignoring the first request");
    loop {
        let mut message = server.recv().await?;
        let envelope = message.take_envelope();
        println!("server: asked for {}", text(&message));
        let mut reply = Multipart::from(format!("{} is fine", text(&message)));
        reply.put_envelope(envelope);
        server.send(reply).await?;
    }
}

fn text(message: &Multipart) -> &str {
    message[0].as_str().unwrap_or("(not text)")
}
