use calloop_zmq::kind::{CanRecv, CanSend, Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub, XPub, XSub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};

fn receives<K: CanRecv>(context: &AsyncZmqContext) -> AsyncZmqSocket<K> {
    context.socket().unwrap()
}

fn sends<K: CanSend>(context: &AsyncZmqContext) -> AsyncZmqSocket<K> {
    context.socket().unwrap()
}

fn main() {
    let event_loop = calloop::EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (receives::<Pair>(&context), sends::<Pair>(&context));
    (receives::<Req>(&context), sends::<Req>(&context));
    (receives::<Rep>(&context), sends::<Rep>(&context));
    (receives::<Dealer>(&context), sends::<Dealer>(&context));
    (receives::<Router>(&context), sends::<Router>(&context));
    (receives::<XPub>(&context), sends::<XPub>(&context));
    (receives::<XSub>(&context), sends::<XSub>(&context));
    (receives::<Stream>(&context), sends::<Stream>(&context));
    (receives::<Sub>(&context), receives::<Pull>(&context));
    (sends::<Pub>(&context), sends::<Push>(&context));
    receives::<Sub>(&context).subscribe("topic").unwrap();
    receives::<XSub>(&context).subscribe("topic").unwrap();
}
