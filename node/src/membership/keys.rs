//! This node's two keys: who it is, and what its tunnels use.
//!
//! In: the state directory, whose lock the caller holds. Out: the keys, made where there are none.
//! Invariant: a tunnel key that another node may know is never pushed out by one that nobody heard of.
//! Absent: changing the tunnel key of a node that runs; the mesh decides that (`daemon/trust.rs`).

use std::path::PathBuf;

use anyhow::Result;
use outlast_mesh::{Identity, NodeKey, TunnelKey};

use super::{Membership, still_member};
use crate::failure::Failure;
use crate::state::StateDir;
use crate::when;

/// This node's keys, and which of their files this call made.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    made: Vec<PathBuf>,
}

impl Keys {
    /// Loads the keys, making those that are missing.
    pub(crate) fn load_or_make(state: &StateDir) -> Result<Self> {
        let mut made = Vec::new();
        let path = state.join("node.key");
        let node = if path.exists() {
            NodeKey::load(&path)?
        } else {
            let key = NodeKey::generate();
            key.store(&path)?;
            made.push(path);
            key
        };
        let path = state.join("wg.key");
        let tunnel = if path.exists() {
            TunnelKey::load(&path)?
        } else {
            let key = TunnelKey::generate();
            key.store(&path)?;
            made.push(path);
            key
        };
        let previous = TunnelKey::load_previous(&state.join("wg.key"))?;
        Ok(Self {
            identity: Identity {
                node,
                tunnel,
                previous,
            },
            made,
        })
    }

    /// Removes what `load_or_make` made.
    pub(crate) fn forget(self) {
        for path in self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long a key that was replaced is kept for those that were away: a month.
const KEPT_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Replaces the tunnel key where no node runs. One that nobody can have heard of yet makes way; one that somebody may
/// have, never goes for it.
pub(crate) fn rotate(state: &StateDir) -> Result<TunnelKey, Failure> {
    let path = state.join("wg.key");
    let present = Keys::load_or_make(state)?.identity;
    let folded = Membership::load(state)?.map(|held| held.statements.state());
    let me = present.node.id();
    if let Some(folded) = &folded {
        still_member(folded, &me)?;
    }
    let said = folded.as_ref().and_then(|folded| {
        let info = folded.members.get(&me)?.info.as_ref()?;
        Some(info.tunnel)
    });
    if said.is_some_and(|said| said != present.tunnel.public()) {
        let new = TunnelKey::lay_by(&path).map_err(anyhow::Error::from)?;
        TunnelKey::put_next(&path).map_err(anyhow::Error::from)?;
        return Ok(new);
    }
    let now_ms = u64::try_from(when::now_ms()).unwrap_or_default();
    if TunnelKey::is_full(&path, now_ms.saturating_sub(KEPT_MS)).map_err(anyhow::Error::from)? {
        return Err(Failure::new(
            "the tunnel key was replaced so often within a month that one which others may know would go: start the node \
             with `outlast up`, and say this again once it has met them",
        ));
    }
    Ok(TunnelKey::rotate(&path).map_err(anyhow::Error::from)?)
}
