//! A kernel: the process, and the file that tells it where to listen.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, io, process};

use calloop_zmq::AsyncZmqContext;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wire::random_hex;

/// How to start a kernel: the command of its kernelspec.
pub(crate) struct Spec {
    command: Vec<String>,
}

impl Spec {
    /// That of the first Python which has ipykernel. The error says where none was.
    pub(crate) fn find() -> Result<Self, &'static str> {
        let in_venv = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python").to_owned();
        let mut pythons = env::var("PYTHON").into_iter().chain([in_venv, "python3".to_owned()]);
        pythons
            .find_map(|python| Self::of(&python))
            .ok_or("no Python with ipykernel: neither PYTHON, target/venv/bin/python nor python3")
    }

    fn of(python: &str) -> Option<Self> {
        let script = "import json, ipykernel.kernelspec as it; print(json.dumps(it.get_kernel_dict()))";
        let output = Command::new(python).args(["-c", script]).stdin(Stdio::null()).output().ok()?;
        let spec: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(Self { command: serde_json::from_value(spec["argv"].clone()).ok()? })
    }
}

/// A running kernel. Killed and reaped at the latest when this is dropped.
pub(crate) struct Kernel {
    child: Child,
    connection: Connection,
    /// Goes with the kernel. Only we may read what is in it: the key for one.
    _directory: TempDir,
}

/// What a client has to know.
pub(crate) struct Connection {
    pub(crate) key: String,
    /// What all endpoints begin with.
    pub(crate) base: String,
}

/// The channels. Their numbers, where with tcp there are ports: files in a directory of our own need no luck to be free.
#[derive(Clone, Copy)]
pub(crate) enum Channel {
    Shell = 1,
    Control,
    Stdin,
    Iopub,
    Heartbeat,
}

impl Connection {
    pub(crate) fn endpoint(&self, channel: Channel) -> String {
        format!("{}-{}", self.base, channel as u8)
    }
}

impl Kernel {
    pub(crate) fn start(spec: &Spec) -> io::Result<Self> {
        let (directory, key) = (tempfile::tempdir()?, random_hex()?);
        let (connection_file, channels) = (directory.path().join("connection.json"), directory.path().join("channel"));
        let content = json!({
            "transport": "ipc",
            "ip": channels,
            "shell_port": Channel::Shell as u8,
            "control_port": Channel::Control as u8,
            "stdin_port": Channel::Stdin as u8,
            "iopub_port": Channel::Iopub as u8,
            "hb_port": Channel::Heartbeat as u8,
            "signature_scheme": "hmac-sha256",
            "key": key,
        });
        fs::write(&connection_file, content.to_string())?;
        let mut words =
            spec.command.iter().map(|word| word.replace("{connection_file}", &connection_file.to_string_lossy()));
        let child = Command::new(words.next().unwrap_or_default())
            .args(words)
            // A kernel ends by itself when its parent does.
            .env("JPY_PARENT_PID", process::id().to_string())
            // History and profile go with the directory.
            .env("IPYTHONDIR", directory.path())
            .stdin(Stdio::null())
            // Ctrl-C is for us, and an interrupt for the kernel and what it started.
            .process_group(0)
            .spawn()?;
        let connection = Connection { key, base: format!("ipc://{}", channels.display()) };
        Ok(Self { child, connection, _directory: directory })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits for the process to end. Nothing portable tells a loop of that, so this looks now and then.
    pub(crate) async fn exited(&mut self, context: &AsyncZmqContext) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            context.sleep(LOOK).await;
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // It fails if the kernel has ended, and then the wait is over at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOOK: Duration = Duration::from_millis(50);
