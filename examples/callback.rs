//! For programs that are callbacks over `&mut Data` and want no tasks: calloop's `StreamSource` makes an event source of
//! a socket. Here it is a shop's counter, and the stock is the loop's data.
//!
//! A callback cannot wait, so it answers with `try_send`.

use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::thread;

use calloop::stream::StreamSource;
use calloop::{EventLoop, LoopSignal, channel};
use calloop_zmq::kind::Rep;
use calloop_zmq::{AsyncZmqContext, Multipart};
use futures::{StreamExt, stream};

const REQUESTS: [[&str; 2]; 5] =
    [["buy", "apples"], ["deliver", "apples"], ["buy", "apples"], ["deliver", "pears"], ["steal", "pears"]];
const PATIENCE_MS: i32 = 2_000;

/// The loop's data: what the callbacks share.
struct Shop {
    stock: BTreeMap<String, u32>,
    outcome: Result<(), Box<dyn Error>>,
    signal: LoopSignal,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<Shop>::try_new()?;
    let handle = event_loop.handle();
    let context = AsyncZmqContext::new(&handle)?;

    let counter = Rc::new(context.socket::<Rep>()?);
    let endpoint = counter.bind("tcp://127.0.0.1:*")?;
    // The source keeps its stream to itself, and the callback answers on the same socket: so they share it. A socket
    // that only receives goes into `StreamSource::new` as it is.
    let requests = Rc::clone(&counter);
    let requests = stream::poll_fn(move |cx| (&*requests).poll_next_unpin(cx));
    handle.insert_source(StreamSource::new(requests)?, move |request, (), shop| {
        let Some(request) = request else { return };
        // A REP never lacks the room for its reply.
        if let Err(error) = request.and_then(|request| Ok(counter.try_send(shop.serve(&request))?)) {
            shop.close(Err(error.into()));
        }
    })?;

    let (report, customer) = channel::channel();
    let zmq_context = context.zmq_context().clone();
    thread::spawn(move || report.send(visit(&zmq_context, &endpoint)));
    handle.insert_source(customer, |left, (), shop| match left {
        channel::Event::Msg(outcome) => shop.close(outcome.map_err(Into::into)),
        channel::Event::Closed => shop.signal.stop(),
    })?;

    let mut shop = Shop { stock: BTreeMap::new(), outcome: Ok(()), signal: event_loop.get_signal() };
    event_loop.run(None, &mut shop, |_| {})?;
    println!("left in the shop: {:?}", shop.stock);
    shop.outcome
}

impl Shop {
    fn close(&mut self, outcome: Result<(), Box<dyn Error>>) {
        self.outcome = outcome;
        self.signal.stop();
    }

    fn serve(&mut self, request: &Multipart) -> String {
        let words: Vec<_> = request.iter().filter_map(|frame| frame.as_str()).collect();
        match words[..] {
            ["deliver", goods] => {
                *self.stock.entry(goods.to_owned()).or_default() += 10;
                "thank you".to_owned()
            }
            ["buy", goods] => match self.stock.get_mut(goods) {
                Some(count @ 1..) => {
                    *count -= 1;
                    format!("here you are, {count} left")
                }
                _ => format!("no {goods} today"),
            },
            _ => "pardon?".to_owned(),
        }
    }
}

/// The customer: a thread with nothing but the zmq crate.
fn visit(context: &zmq::Context, endpoint: &str) -> zmq::Result<()> {
    let client = context.socket(zmq::REQ)?;
    client.set_linger(0)?;
    client.set_rcvtimeo(PATIENCE_MS)?;
    client.connect(endpoint)?;
    for request in REQUESTS {
        client.send_multipart(request, 0)?;
        let answer = client.recv_msg(0)?;
        println!("{}: {}", request.join(" "), answer.as_str().unwrap_or("(not text)"));
    }
    Ok(())
}
