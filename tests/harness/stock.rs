//! A stock WireGuard machine: `wireguard-go` and `wg` as Debian ships them, in a namespace.
//!
//! `up` starts the process and configures it as `wg-quick` does, `inside` runs a command beside it,
//! `handshake_ms` and `received` ask it what it has seen.
//! Absent: keys that mean something; the test says whose they are.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::killed::Killed;

/// How long the process may take to open its socket.
const STARTING: Duration = Duration::from_secs(10);

/// One machine's keys and names.
#[derive(Debug)]
pub struct Stock {
    namespace: String,
    interface: String,
    settings: PathBuf,
    private: String,
}

impl Stock {
    /// A machine in this namespace with this private key, in base64, whose settings stand in `dir`.
    /// The name tells it from others of the same test.
    pub fn new(name: &str, namespace: &str, private: &str, dir: &Path) -> Self {
        Self {
            namespace: namespace.to_owned(),
            // At most 15 letters, and unlike any other on this machine: its socket is named so.
            interface: format!("ol{}{name}", std::process::id()),
            settings: dir.join(format!("{name}.conf")),
            private: private.trim().to_owned(),
        }
    }

    /// A fresh private key.
    pub fn private_key() -> String {
        wg(&["genkey"], "").trim().to_owned()
    }

    /// Its public key.
    pub fn public_key(&self) -> String {
        wg(&["pubkey"], &self.private).trim().to_owned()
    }

    /// Starts it on this UDP port with these lines about its peer, and returns the process.
    ///
    /// # Panics
    /// When it can't be started; `make test` and `make bench` install it.
    pub fn up(&self, port: u16, peer: &str) -> Killed {
        let text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\n[Peer]\n{peer}\n",
            self.private
        );
        std::fs::write(&self.settings, text).expect("write the settings");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(["wireguard-go", "-f", &self.interface])
            .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start wireguard-go");
        let process = Killed(child);
        let deadline = Instant::now() + STARTING;
        while self.ask("last_handshake_time_sec").is_err() {
            assert!(Instant::now() < deadline, "wireguard-go did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        let settings = self.settings.to_str().expect("a plain path");
        self.inside(&["wg", "setconf", &self.interface, settings]);
        self.inside(&["ip", "link", "set", &self.interface, "up"]);
        process
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Runs a command on this machine.
    ///
    /// # Panics
    /// When it fails.
    pub fn inside(&self, command: &[&str]) {
        let status = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(command)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    }

    /// Wall time of the last handshake in ms. `None` before the first.
    pub fn handshake_ms(&self) -> Option<f64> {
        let seconds = self.ask("last_handshake_time_sec").ok().flatten()?;
        let nanos = self.ask("last_handshake_time_nsec").ok().flatten()?;
        (seconds > 0.0).then_some(seconds * 1_000.0 + nanos / 1_000_000.0)
    }

    /// Bytes it has received from its peer.
    pub fn received(&self) -> f64 {
        self.ask("rx_bytes").ok().flatten().unwrap_or_default()
    }

    /// Asks the process itself over its socket, as `wg show` does, without starting one.
    fn ask(&self, key: &str) -> std::io::Result<Option<f64>> {
        let path = format!("/var/run/wireguard/{}.sock", self.interface);
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(b"get=1\n\n")?;
        let mut answer = None;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((_, text)) = line.split_once('=').filter(|(name, _)| *name == key) {
                answer = text.parse().ok();
            }
        }
        Ok(answer)
    }
}

fn wg(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("wg")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start wg");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("wg reads");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for wg");
    String::from_utf8(output.stdout).expect("base64")
}
