//! One node: the daemon and its command line. Only this crate knows both the mesh and the store.
//!
//! The data's way:
//! 1. `collect/` reads the machine once a second: one tick of values.
//! 2. `flow/local.rs` makes it a row, hands it to the store's `append.rs` and at once to every live peer.
//! 3. The mesh seals it (`mesh/src/tunnel/`) and sends it as datagrams, never queued behind bulk.
//! 4. The peer's `flow/remote.rs` puts the parts together and gives the row to its own store.
//! 5. `replica/` compares what each side holds and asks for what is missing; `flow/remote.rs` answers from the store.
//! 6. The store's `query.rs` reads ranges, gaps as gaps.
//! 7. `web/live.rs` answers the page over one `WebSocket`; `ui/` draws it.
//! 8. `control.rs` answers the command line over one socket; `command/` prints it.
//! 9. `daemon.rs` starts all of this in order, and stops it within five seconds.
//! 10. `cli.rs` says what can be typed; `config.rs` what can be set.

pub mod collect;
pub mod flow;
pub mod replica;
pub mod web;

/// Runs the program with this process's arguments.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
