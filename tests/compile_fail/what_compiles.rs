use calloop_zmq::kind::{Any, CanRecv, CanSend, Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub, XPub, XSub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, proxy};

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
    drop(proxy(&receives::<Pull>(&context), &sends::<Push>(&context)));
    drop(proxy(&sends::<Push>(&context), &receives::<Pull>(&context)));
    drop(proxy(&receives::<Router>(&context), &receives::<Dealer>(&context)));
    drop(proxy(&receives::<XSub>(&context), &receives::<XPub>(&context)));
    drop(proxy(&receives::<Sub>(&context), &receives::<Pair>(&context)));
    let router = receives::<Router>(&context);
    drop(proxy(&router, &router));
    let bare = context.zmq_context().socket(zmq::PULL).unwrap();
    drop(proxy(&context.adopt::<Any>(bare).unwrap(), &sends::<Pub>(&context)).capture(&sends::<Pub>(&context)));
}
