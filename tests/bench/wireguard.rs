//! A pair of stock WireGuard machines to be measured against, in namespaces of their own.

use std::time::Duration;

use outlast_tests::{Killed, Net, Stock, now_ms, wait_for};

const PORT: u16 = 51_820;

/// Times from spawning b to its first handshake with a, in ms: a is up and knows b, b's process
/// was killed 1 to 2 s before, but for the first run.
pub(crate) fn handshakes(runs: usize) -> Vec<f64> {
    let mut net = Net::new("g").expect("namespaces take root");
    let dir = tempfile::tempdir().expect("a scratch directory");
    let sides: Vec<Stock> = ["a", "b"]
        .iter()
        .map(|name| Stock::new(name, &net.plug(name), &Stock::private_key(), dir.path()))
        .collect();
    let _a = up(&sides[0], &sides[1], 2);
    (0..runs)
        .map(|run| {
            std::thread::sleep(Duration::from_millis(1_000 + (1_000 * run / runs) as u64));
            let began = now_ms();
            let _b = up(&sides[1], &sides[0], 1);
            wait_for("a handshake", Duration::from_secs(60), || {
                sides[1].handshake_ms().ok_or_else(String::new)
            }) - began as f64
        })
        .collect()
}

/// Starts one that knows the other, the host of this number.
fn up(side: &Stock, other: &Stock, number: usize) -> Killed {
    let peer = format!(
        "PublicKey = {}\nEndpoint = 10.77.0.{number}:{PORT}\nAllowedIPs = 10.99.0.{number}/32\n\
         PersistentKeepalive = 25",
        other.public_key()
    );
    side.up(PORT, &peer)
}
