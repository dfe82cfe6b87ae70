//! The guide's "Lazy Pirate" (chapter 4, "Client-Side Reliability"): a client that waits for its reply so long, asks again
//! so often, and then gives up.
//!
//! The guide closes the socket for each new try, as a plain REQ cannot ask twice. Here `request` does it on one socket: a
//! try can be given up, and a late reply to it is not taken for the reply to the next. Look at the question that is
//! answered late: its first try gets a reply as well, and nobody sees it.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::future;

const TIMEOUT: Duration = Duration::from_millis(200);
const TRIES: usize = 4;
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (server, client) = (context.socket::<Router>()?, context.socket::<Req>()?);
    client.connect(&server.bind("tcp://127.0.0.1:*")?)?;

    let visit = async {
        for (question, fewest) in [("answered", 1), ("ignored at first", 2), ("answered late", 2)] {
            let tries = ask(&context, &client, question).await?;
            assert!(tries.is_some_and(|tries| tries >= fewest), "{question}: {tries:?}");
        }
        assert_eq!(ask(&context, &client, "the last one").await?, None, "nobody is there any more");
        Ok(())
    };
    let both = context.timeout(DEADLINE, future::try_join(serve(&context, server), visit));
    event_loop.block_on(both, &mut (), |()| {})?.transpose()?.transpose()?;
    Ok(())
}

/// Answers how many tries it took; `None`: it gave up.
async fn ask(
    context: &AsyncZmqContext,
    client: &AsyncZmqSocket<Req>,
    question: &str,
) -> calloop_zmq::Result<Option<usize>> {
    for attempt in 1..=TRIES {
        let number = attempt.to_string();
        let Ok(reply) = context.timeout(TIMEOUT, client.request([question, &number])).await else {
            println!("client: no reply to try {attempt} of {question:?}");
            continue;
        };
        assert_eq!(reply?, [question, &number].into(), "the reply is the one to this try");
        println!("client: {question:?} took {attempt} tries");
        return Ok(Some(attempt));
    }
    println!("client: giving up {question:?}");
    Ok(None)
}

/// A ROUTER, because a REP must reply before it may receive again.
async fn serve(context: &AsyncZmqContext, server: AsyncZmqSocket<Router>) -> calloop_zmq::Result<()> {
    loop {
        let mut request = server.recv().await?;
        let envelope = request.take_envelope();
        match texts(&request)[..] {
            ["ignored at first", "1"] => continue,
            ["answered late", "1"] => context.sleep(TIMEOUT * 3 / 2).await,
            // Its socket goes with it.
            ["the last one", _] => return Ok(()),
            _ => {}
        }
        println!("server: replying to {:?}", texts(&request));
        request.put_envelope(envelope);
        server.send(request).await?;
    }
}

fn texts(message: &Multipart) -> Vec<&str> {
    message.iter().filter_map(|frame| frame.as_str()).collect()
}
