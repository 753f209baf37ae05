//! The store of a node that is down, opened as the node itself would, to give it rows.

use std::path::Path;
use std::time::Duration;

use outlast_mesh::{NodeKey, verify};
use outlast_store::{Keys, Origin, Store, StoreConfig};

/// Opens the store in a node's state directory and waits until it is ready.
#[must_use]
pub fn own_store(state: &Path) -> Store {
    let key = NodeKey::load(&state.join("node.key")).expect("the node has a key");
    let config = StoreConfig {
        dir: state.join("store"),
        limit_bytes: 1 << 30,
        sync_every: Duration::from_secs(1),
        check: None,
    };
    let keys = Keys {
        origin: Origin(key.public()),
        sign: Box::new(move |message| key.sign(message)),
        verify: Box::new(|origin, message, signature| verify(&origin.0, message, signature)),
    };
    let store = Store::open(config, keys).expect("open the node's store");
    while !store.ready() {
        std::thread::sleep(Duration::from_millis(10));
    }
    store
}
