//! Who may connect. A shop lets in who has a password (PLAIN), and asks its staff's office, which takes its time, about
//! those who have none on the list. Where libzmq has CURVE, a second door lets in who owns a known key, encrypted.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Router};
use calloop_zmq::zap::{Authenticator, Credentials, Decision, Policy, Request, Rules};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, features};

const PATIENCE: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", features());
    let mut event_loop = EventLoop::<()>::try_new()?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| println!("a task has ended: {ended:?}"))?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;

    // Before any socket is bound: whom libzmq cannot ask about, it may let in.
    let rules = Rules::new();
    let authenticator = Authenticator::new(&context, policy(context.clone(), rules.clone()))?;
    scheduler.schedule(authenticator.run())?;

    let door = context.socket::<Router>()?;
    door.require_zap("shop")?;
    door.get_ref().set_plain_server(true)?;
    let endpoint = door.bind("tcp://127.0.0.1:*")?;

    let visits = async {
        rules.add_user("shop", "alice", "secret"); // the lists may change at any time
        for (name, password) in [("alice", "secret"), ("alice", "guess"), ("bob", "hello"), ("mallory", "hello")] {
            let visitor = context.socket::<Dealer>()?;
            visitor.get_ref().set_plain_username(Some(name))?;
            visitor.get_ref().set_plain_password(Some(password))?;
            visitor.connect(&endpoint)?;
            visit(&context, &door, visitor, name).await?;
        }
        if features().curve {
            by_key(&context, &rules).await?;
        } else {
            println!("no second door: {}", calloop_zmq::Error::CurveMissing);
        }
        Ok::<_, Box<dyn Error>>(())
    };
    event_loop.block_on(visits, &mut (), |()| {})?.transpose()?;

    drop(door);
    // Ends the authenticator, too.
    event_loop.block_on(context.terminate(), &mut (), |()| {})?.transpose()?;
    Ok(())
}

/// The lists first, then the office. Nobody else has to wait while it thinks.
fn policy(clock: AsyncZmqContext, rules: Rules) -> impl Policy {
    move |request: Request| {
        let (listed, clock) = (rules.check(&request), clock.clone());
        async move {
            match request.credentials {
                _ if listed.is_allowed() => listed.with_property("Role", "customer"),
                Credentials::Plain { username, .. } if username == "bob" => {
                    clock.sleep(Duration::from_millis(50)).await;
                    Decision::allow().with_user_id(username).with_property("Role", "staff")
                }
                _ => listed,
            }
        }
    }
}

/// The second door: no passwords on the wire, and nothing else to read there either.
async fn by_key(context: &AsyncZmqContext, rules: &Rules) -> Result<(), Box<dyn Error>> {
    let (shop, carol, mallory) = (zmq::CurveKeyPair::new()?, zmq::CurveKeyPair::new()?, zmq::CurveKeyPair::new()?);
    rules.add_key("vault", carol.public_key, "carol")?;

    let door = context.socket::<Router>()?;
    door.require_zap("vault")?;
    door.get_ref().set_curve_server(true)?;
    door.get_ref().set_curve_secretkey(&shop.secret_key)?;
    let endpoint = door.bind("tcp://127.0.0.1:*")?;
    for (name, pair) in [("carol", carol), ("mallory", mallory)] {
        let visitor = context.socket::<Dealer>()?;
        visitor.get_ref().set_curve_serverkey(&shop.public_key)?;
        visitor.get_ref().set_curve_publickey(&pair.public_key)?;
        visitor.get_ref().set_curve_secretkey(&pair.secret_key)?;
        visitor.connect(&endpoint)?;
        visit(context, &door, visitor, name).await?;
    }
    Ok(())
}

/// Says good day, and sees whether that arrives.
async fn visit(
    context: &AsyncZmqContext,
    door: &AsyncZmqSocket<Router>,
    visitor: AsyncZmqSocket<Dealer>,
    name: &str,
) -> Result<(), Box<dyn Error>> {
    visitor.get_ref().set_linger(0)?;
    visitor.send("good day").await?;
    match context.timeout(PATIENCE, door.recv()).await {
        Ok(message) => {
            let message = message?;
            let (user, role) = (message.user_id().unwrap_or("?"), message.property("Role").unwrap_or("visitor"));
            println!("{name} came in, as the {role} {user}");
        }
        Err(_) => println!("{name} stayed outside"),
    }
    Ok(())
}
