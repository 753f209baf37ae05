//! A pair of stock WireGuard machines to be measured against: `wireguard-go` and `wg` as Debian
//! ships them, in namespaces of their own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use outlast_tests::{Killed, Net, now_ms, wait_for};

const PORT: u16 = 51_820;

/// Times from spawning b to its first handshake with a, in ms: a is up and knows b, b's process
/// was killed 1 to 2 s before, but for the first run.
pub(crate) fn handshakes(runs: usize) -> Vec<f64> {
    let mut net = Net::new("g").expect("namespaces take root");
    let dir = tempfile::tempdir().expect("a scratch directory");
    let sides: Vec<Side> = ["a", "b"]
        .iter()
        .map(|name| Side::new(name, net.plug(name), dir.path()))
        .collect();
    for (number, side) in sides.iter().enumerate() {
        side.write_settings(&sides[1 - number], 2 - number);
    }
    let _a = sides[0].up();
    (0..runs)
        .map(|run| {
            std::thread::sleep(Duration::from_millis(1_000 + (1_000 * run / runs) as u64));
            let began = now_ms();
            let _b = sides[1].up();
            wait_for("a handshake", Duration::from_secs(60), || {
                sides[1].handshake_ms().ok_or_else(String::new)
            }) - began as f64
        })
        .collect()
}

/// One machine's keys and names.
struct Side {
    namespace: String,
    interface: String,
    settings: PathBuf,
    private: String,
    public: String,
}

impl Side {
    fn new(name: &str, namespace: String, dir: &std::path::Path) -> Self {
        let private = wg(&["genkey"], "");
        let public = wg(&["pubkey"], &private);
        Self {
            namespace,
            // At most 15 letters, and unlike any other on this machine: its socket is named so.
            interface: format!("ol{}{name}", std::process::id()),
            settings: dir.join(name),
            private,
            public,
        }
    }

    fn write_settings(&self, other: &Self, number: usize) {
        let text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n[Peer]\nPublicKey = {}\n\
             Endpoint = 10.77.0.{number}:{PORT}\nAllowedIPs = 10.99.0.{number}/32\n\
             PersistentKeepalive = 25\n",
            self.private.trim(),
            other.public.trim(),
        );
        std::fs::write(&self.settings, text).expect("write the settings");
    }

    /// Starts the process and configures it as `wg-quick` does.
    fn up(&self) -> Killed {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(["wireguard-go", "-f", &self.interface])
            .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start wireguard-go; `make bench` installs it");
        let process = Killed(child);
        let deadline = now_ms() + 10_000;
        while self.handshake().is_err() {
            assert!(now_ms() < deadline, "wireguard-go did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        let settings = self.settings.to_str().expect("a plain path");
        self.inside(&["wg", "setconf", &self.interface, settings]);
        self.inside(&["ip", "link", "set", &self.interface, "up"]);
        process
    }

    fn inside(&self, command: &[&str]) {
        let status = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(command)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    }

    /// Wall time of the last handshake in ms. `None` before the first.
    fn handshake_ms(&self) -> Option<f64> {
        self.handshake().ok().flatten()
    }

    /// Asks the process itself over its socket, as `wg show` does, without starting one.
    fn handshake(&self) -> std::io::Result<Option<f64>> {
        let path = format!("/var/run/wireguard/{}.sock", self.interface);
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(b"get=1\n\n")?;
        let (mut seconds, mut nanos) = (0.0, 0.0);
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let number = |text: &str| text.parse::<f64>().unwrap_or_default();
            if let Some(text) = line.strip_prefix("last_handshake_time_sec=") {
                seconds = number(text);
            } else if let Some(text) = line.strip_prefix("last_handshake_time_nsec=") {
                nanos = number(text);
            } else if line.is_empty() {
                break;
            }
        }
        let at = seconds * 1_000.0 + nanos / 1_000_000.0;
        Ok((seconds > 0.0).then_some(at))
    }
}

fn wg(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("wg")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start wg; `make bench` installs it");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("wg reads");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for wg");
    String::from_utf8(output.stdout).expect("base64")
}
