//! How much the store may take, followed while the node runs.
//!
//! In: the mesh's snapshots, which name what is settled for this node. Out: another bound for the store when it changes.
//! Invariant: what this machine's configuration says goes before what the mesh settled.
//! Absent: what goes first when a bound is lowered; the store decides that.

use std::sync::Arc;

use outlast_mesh::Snapshot;
use outlast_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::state::StateDir;

/// Keeps the store at its bound until the node stops. `settled` is what it was opened with.
pub(super) async fn follow(
    config: Config,
    state: StateDir,
    mut settled: Option<u64>,
    mut mesh: watch::Receiver<Arc<Snapshot>>,
    store: Store,
    stop: CancellationToken,
) {
    loop {
        let now = settled_here(&mesh.borrow_and_update());
        if settled != now {
            let bound = config.store_bound(state.path(), now);
            tracing::info!(
                limit_bytes = bound.bytes,
                from = bound.from.as_str(),
                "what the mesh settled for the store changed"
            );
            store.set_limit(bound.bytes);
            settled = now;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = mesh.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Bytes that the mesh lets the store here take. `None`: nothing is settled.
pub(super) fn settled_here(snapshot: &Snapshot) -> Option<u64> {
    let me = snapshot
        .members
        .iter()
        .find(|member| member.id == snapshot.me);
    me.and_then(|me| me.retention_bytes)
}
