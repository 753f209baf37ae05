//! How the daemon shows the service manager that it lives.
//!
//! In: the mesh's snapshot, which its task makes anew each second; the sampler's count, one a second. Out: both as
//! counts for the watchdog, and a line for `systemctl status`.
//! Absent: the store. A disk that hangs is no reason to end the node that still tells its peers; `status` says it.

use std::sync::Arc;

use outlast_mesh::{PeerState, Snapshot};
use tokio::sync::watch;

use super::Daemon;
use crate::service::herald::Herald;
use crate::text::visible;

/// Speaks until the daemon stops.
pub(super) async fn speak(herald: Arc<Herald>, daemon: Arc<Daemon>) {
    let mut mesh = Beats::default();
    let stop = daemon.stop.clone();
    herald.speak(|| news(&daemon, &mut mesh), stop).await;
}

fn news(daemon: &Daemon, mesh: &mut Beats<Arc<Snapshot>>) -> (String, Vec<(&'static str, u64)>) {
    let Some(running) = daemon.running() else {
        let waiting = !daemon.state.is_member();
        let status = if waiting {
            "waiting for `outlast init` or `outlast join`"
        } else {
            "starting"
        };
        return (status.to_owned(), Vec::new());
    };
    let count = mesh.count(|| running.mesh.watch());
    let snapshot = running.mesh.snapshot();
    let beats = vec![("mesh", count), ("sampler", running.flow.taken().rows)];
    (line(&snapshot), beats)
}

/// How often something that is made anew each second was seen to be new.
struct Beats<T> {
    watched: Option<watch::Receiver<T>>,
    count: u64,
}

impl<T> Default for Beats<T> {
    fn default() -> Self {
        Self {
            watched: None,
            count: 0,
        }
    }
}

impl<T> Beats<T> {
    fn count(&mut self, watch: impl FnOnce() -> watch::Receiver<T>) -> u64 {
        let watched = self.watched.get_or_insert_with(watch);
        // An error means that the maker is gone, and what is gone beats no more.
        if watched.has_changed().unwrap_or(false) {
            watched.mark_unchanged();
            self.count += 1;
        }
        self.count
    }
}

fn line(snapshot: &Snapshot) -> String {
    let alive = snapshot.peers.iter();
    let alive = alive.filter(|peer| peer.state == PeerState::Alive).count();
    format!(
        "{} in mesh {}, hears {alive} of {} peers, UDP port {}",
        visible(&snapshot.my_name),
        visible(&snapshot.mesh_name),
        snapshot.peers.len(),
        snapshot.udp_port
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::watchdog::Watchdog;

    #[test]
    fn a_mesh_that_makes_no_new_snapshot_is_found_out() {
        let (maker, first) = watch::channel(0);
        let (mut beats, mut watchdog) = (Beats::default(), Watchdog::default());
        let mut look = || watchdog.handle_beats([("mesh", beats.count(|| first.clone()))]);
        assert_eq!(look(), None);
        for number in 1..5 {
            maker.send_replace(number);
            assert_eq!(look(), None, "look {number}");
        }
        assert_eq!(look(), Some("mesh"));
        maker.send_replace(5);
        assert_eq!(look(), None);
        drop(maker);
        assert_eq!(look(), Some("mesh"));
    }
}
