//! Hosts with a router between them, each a network namespace of this machine's kernel, and links that can be cut.
//!
//! The namespaces have no names: one lives as long as the file that stands for it here. So nothing is left of them, however
//! a test ends. A thread can stand in any of them, and what it opens there (libzmq's threads included) stays there.

#![allow(clippy::unwrap_used, reason = "this is for tests")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::{self, Command, Output, Stdio};
use std::thread;

use calloop::LoopHandle;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::Pair;

/// Some hosts, each with a line of its own to the one router.
pub(crate) struct Network {
    router: Namespace,
    hosts: Vec<Namespace>,
}

impl Network {
    /// `None`, and a word about it that no test runner keeps to itself, where the machine does not allow this.
    pub(crate) fn lay(hosts: usize) -> Option<Self> {
        Self::try_lay(hosts)
            .inspect_err(|error| tell(&format!("SKIPPED, no network of namespaces can be laid here: {error}")))
            .ok()
    }

    fn try_lay(hosts: usize) -> io::Result<Self> {
        let network =
            Self { router: Namespace::new()?, hosts: (0..hosts).map(|_| Namespace::new()).collect::<io::Result<_>>()? };
        for (host, namespace) in network.hosts.iter().enumerate() {
            network.router.ip(&format!(
                "link add port{host} type veth peer name eth0 netns {}
                 addr add 10.77.{host}.1/24 dev port{host}
                 link set port{host} up",
                namespace.path(),
            ))?;
            namespace.ip(&format!(
                "addr add {}/24 dev eth0
                 link set eth0 up
                 route add default via 10.77.{host}.1",
                address(host),
            ))?;
            network.forward_from(host, true)?;
        }
        Ok(network)
    }

    /// A context whose connections are made by that host.
    pub(crate) fn context(&self, host: usize, handle: &LoopHandle<'static, ()>) -> AsyncZmqContext {
        self.on(host, || {
            let context = AsyncZmqContext::new(handle).unwrap();
            // The first socket starts libzmq's threads.
            drop(context.socket::<Pair>().unwrap());
            context
        })
    }

    /// Lets the thread be on that host for a moment: to bind there.
    pub(crate) fn on<T>(&self, host: usize, act: impl FnOnce() -> T) -> T {
        self.hosts[host].within(act).unwrap()
    }

    /// Cuts a host's line. Nobody is told: packets just do not arrive any more.
    pub(crate) fn cut(&self, host: usize, cut: Cut) {
        if cut != Cut::Inbound {
            self.forward_from(host, false).unwrap();
        }
        if cut != Cut::Outbound {
            self.router.ip(&format!("route add blackhole {}/32", address(host))).unwrap();
        }
    }

    /// Mends it again.
    pub(crate) fn heal(&self, host: usize, cut: Cut) {
        if cut != Cut::Inbound {
            self.forward_from(host, true).unwrap();
        }
        if cut != Cut::Outbound {
            self.router.ip(&format!("route del blackhole {}/32", address(host))).unwrap();
        }
    }

    /// Makes what goes to a host take its time, and answers how; `None` if the kernel has no means.
    pub(crate) fn slow_down(&self, host: usize) -> Option<&'static str> {
        let means = ["netem delay 40ms 10ms", "tbf rate 8mbit burst 16kb latency 200ms"];
        means.into_iter().find(|means| {
            let mut tc = Command::new("tc");
            tc.args(["qdisc", "add", "dev", &format!("port{host}"), "root"]).args(means.split(' '));
            self.router.within(|| tc.output()).unwrap().is_ok_and(|done| done.status.success())
        })
    }

    fn forward_from(&self, host: usize, forward: bool) -> io::Result<()> {
        let setting = format!("/proc/sys/net/ipv4/conf/port{host}/forwarding");
        self.router.within(|| fs::write(setting, if forward { "1" } else { "0" }))?
    }
}

/// What of a host's line does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What it sends does not arrive.
    Outbound,
    /// What is sent to it does not arrive.
    Inbound,
    Both,
}

/// The address of a host.
pub(crate) fn address(host: usize) -> String {
    format!("10.77.{host}.2")
}

/// Says it to whoever runs the tests, also where output of tests that pass is not shown.
pub(crate) fn tell(what: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(io::stderr(), "\n{test}: {what}\n");
}

/// A network namespace.
struct Namespace(File);

impl Namespace {
    fn new() -> io::Result<Self> {
        let unshared = thread::spawn(|| {
            // SAFETY: a call without pointers. It moves this thread, and no other.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Self::here()
        });
        unshared.join().expect("no panic")
    }

    /// The one in which this thread is.
    fn here() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    fn within<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let home = Self::here()?;
        self.enter()?;
        let outcome = act();
        home.enter()?;
        Ok(outcome)
    }

    fn enter(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open. It moves this thread, and no other.
        if unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Where other processes find it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }

    /// Runs commands of `ip`, one in each line.
    fn ip(&self, commands: &str) -> io::Result<()> {
        let done = self.within(|| run(Command::new("ip").args(["-batch", "-"]), commands))??;
        if done.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("ip: {}", String::from_utf8_lossy(&done.stderr))))
        }
    }
}

fn run(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
    child.wait_with_output()
}
