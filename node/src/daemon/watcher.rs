//! A node that lives only as long as who started it: the demo's.
//!
//! In: standard input, held open by the parent. Out: a stop when it closes, and no directory left.
//! Absent: looking for the parent's pid; a pipe closes whatever way its holder dies.

use std::io::Read;
use std::path::Path;

use tokio_util::sync::CancellationToken;

/// Stops the node when standard input closes.
pub(super) fn stop_with_stdin(stop: CancellationToken) {
    // A thread of its own: a read from the terminal or a pipe can't be cancelled.
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while std::io::stdin()
            .read(&mut sink)
            .is_ok_and(|count| count > 0)
        {}
        stop.cancel();
    });
}

/// Removes this node's directory, and the one around it if this was the last.
pub(super) fn remove(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    if let Some(around) = dir.parent() {
        let _ = std::fs::remove_dir(around);
    }
}
