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
    let mut mesh = MeshBeats::default();
    let stop = daemon.stop.clone();
    herald.speak(|| news(&daemon, &mut mesh), stop).await;
}

fn news(daemon: &Daemon, mesh: &mut MeshBeats) -> (String, Vec<(&'static str, u64)>) {
    let Some(running) = daemon.running() else {
        let waiting = !daemon.state.is_member();
        let status = if waiting {
            "waiting for `outlast init` or `outlast join`"
        } else {
            "starting"
        };
        return (status.to_owned(), Vec::new());
    };
    let watched = mesh.watched.get_or_insert_with(|| running.mesh.watch());
    if watched.has_changed().unwrap_or(false) {
        mesh.count += 1;
    }
    let snapshot = Arc::clone(&watched.borrow_and_update());
    let beats = vec![("mesh", mesh.count), ("sampler", running.flow.taken().rows)];
    (line(&snapshot), beats)
}

/// How often the mesh's task was seen to have made a new snapshot.
#[derive(Default)]
struct MeshBeats {
    watched: Option<watch::Receiver<Arc<Snapshot>>>,
    count: u64,
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
