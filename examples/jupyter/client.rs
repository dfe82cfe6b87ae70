//! A kernel's client: five sockets, and what is said on them.

use std::error::Error;
use std::time::Duration;

use calloop_zmq::kind::{Dealer, Req, Sub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use futures::{FutureExt, future, select_biased};
use serde_json::{Value, json};

use crate::kernel::{Channel, Connection};
use crate::wire::{Message, Session};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) struct Client {
    context: AsyncZmqContext,
    session: Session,
    shell: AsyncZmqSocket<Dealer>,
    control: AsyncZmqSocket<Dealer>,
    stdin: AsyncZmqSocket<Dealer>,
    iopub: AsyncZmqSocket<Sub>,
    heartbeat: AsyncZmqSocket<Req>,
}

impl Client {
    /// Connects to a kernel that need not listen yet.
    pub(crate) fn new(context: &AsyncZmqContext, connection: &Connection) -> Result<Self> {
        let client = Self {
            context: context.clone(),
            session: Session::new(&connection.key)?,
            shell: context.socket()?,
            control: context.socket()?,
            stdin: context.socket()?,
            iopub: context.socket()?,
            heartbeat: context.socket()?,
        };
        // The kernel asks for input where the request came from, by this name.
        client.shell.get_ref().set_identity(client.session.id().as_bytes())?;
        client.stdin.get_ref().set_identity(client.session.id().as_bytes())?;
        client.iopub.subscribe("")?;
        client.shell.connect(&connection.endpoint(Channel::Shell))?;
        client.control.connect(&connection.endpoint(Channel::Control))?;
        client.stdin.connect(&connection.endpoint(Channel::Stdin))?;
        client.iopub.connect(&connection.endpoint(Channel::Iopub))?;
        client.heartbeat.connect(&connection.endpoint(Channel::Heartbeat))?;
        Ok(client)
    }

    /// Waits until the kernel answers and is heard on iopub, and returns what it says of itself.
    pub(crate) async fn ready(&self) -> Result<Value> {
        loop {
            // Each request has its status published. What was published before our subscription came was not for us, so
            // ask until something is.
            let answer = self.ask(&self.shell, "kernel_info_request", json!({}));
            let heard = async { Ok(self.iopub.recv().await?) };
            if let Ok(ready) = self.context.timeout(PATIENCE, future::try_join(answer, heard)).await {
                return Ok(ready?.0.content);
            }
        }
    }

    /// Returns when the kernel's heart, which beats also while the kernel computes, has missed three beats.
    pub(crate) async fn watch_heart(&self, mut beaten: impl FnMut()) -> Result<()> {
        // It has none before it has started, however long that takes.
        self.heartbeat.request("ping").await?;
        let mut missed = 0;
        while missed < 3 {
            match self.context.timeout(PATIENCE, self.heartbeat.request("ping")).await {
                Ok(beat) => {
                    beat?;
                    beaten();
                    missed = 0;
                    self.context.sleep(BEAT).await;
                }
                Err(_elapsed) => missed += 1,
            }
        }
        Ok(())
    }

    /// Starts a cell.
    pub(crate) async fn execute(&self, code: &str) -> Result<Cell<'_>> {
        let content = json!({"code": code, "silent": false, "store_history": true, "allow_stdin": true});
        let request = self.send(&self.shell, "execute_request", content).await?;
        Ok(Cell { client: self, request, replied: false, idle: false })
    }

    /// Interrupts the cell that runs.
    pub(crate) async fn interrupt(&self) -> Result<()> {
        // ipykernel answers this whatever its kernelspec says; another kernel may insist on a SIGINT.
        self.ask(&self.control, "interrupt_request", json!({})).await?;
        Ok(())
    }

    /// Asks the kernel to end itself.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        self.ask(&self.control, "shutdown_request", json!({"restart": false})).await?;
        Ok(())
    }

    /// Sends a request and waits for its reply. Late replies to requests that were given up are skipped.
    async fn ask(&self, channel: &AsyncZmqSocket<Dealer>, kind: &str, content: Value) -> Result<Message> {
        let request = self.send(channel, kind, content).await?;
        loop {
            let reply = self.session.decode(&channel.recv().await?)?;
            match reply.text("status") {
                _ if !reply.is_about(&request) => {}
                "error" => return Err(format!("the kernel refused {kind}: {}", reply.text("evalue")).into()),
                _ => return Ok(reply),
            }
        }
    }

    async fn send(&self, channel: &AsyncZmqSocket<Dealer>, kind: &str, content: Value) -> Result<Message> {
        let message = self.session.request(kind, content);
        channel.send(self.session.encode(&message)).await?;
        Ok(message)
    }
}

/// A cell that was given to the kernel.
pub(crate) struct Cell<'a> {
    client: &'a Client,
    request: Message,
    replied: bool,
    /// All output was published.
    idle: bool,
}

/// What a running cell tells.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// A piece of its output, as it comes.
    Text(String),
    /// The value of its last expression.
    Value(String),
    /// It waits for a line of input, see [`Cell::answer`].
    Input { prompt: String },
    /// It failed.
    Error { name: String, traceback: String },
}

impl Cell<'_> {
    /// Waits for what the cell tells next; `None` when it has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        let Client { session, shell, stdin, iopub, .. } = self.client;
        // The reply and the end of the output come on two sockets: in either order.
        while !(self.replied && self.idle) {
            let frames = select_biased! {
                frames = iopub.recv().fuse() => frames?,
                frames = stdin.recv().fuse() => frames?,
                frames = shell.recv().fuse() => frames?,
            };
            let message = session.decode(&frames)?;
            if message.is_about(&self.request) {
                match message.kind() {
                    "execute_reply" => self.replied = true,
                    "status" => self.idle = message.text("execution_state") == "idle",
                    _ => {
                        if let Some(event) = event(&message) {
                            return Ok(Some(event));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Answers [`Event::Input`].
    pub(crate) async fn answer(&self, line: &str) -> Result<()> {
        // The kernel looks for nothing but the next message on its channel.
        self.client.send(&self.client.stdin, "input_reply", json!({"value": line})).await?;
        Ok(())
    }
}

fn event(message: &Message) -> Option<Event> {
    let event = match message.kind() {
        "stream" => Event::Text(message.text("text").to_owned()),
        "execute_result" => Event::Value(message.content["data"]["text/plain"].as_str().unwrap_or_default().to_owned()),
        "input_request" => Event::Input { prompt: message.text("prompt").to_owned() },
        "error" => {
            let lines = message.content["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Event::Error { name: message.text("ename").to_owned(), traceback: lines.collect::<Vec<_>>().join("\n") }
        }
        _ => return None,
    };
    Some(event)
}

/// How long a kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at its heart.
const BEAT: Duration = Duration::from_millis(250);
