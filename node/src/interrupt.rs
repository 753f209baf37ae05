//! Ctrl-C and SIGTERM, for commands that have something to put back first.
//!
//! In: the two signals. Out: one call, on a thread of its own.
//! Absent: the daemon's own stop, which waits for the signals in its runtime.

use tokio::signal::unix::{SignalKind, signal};

/// Calls `then` once, when this process is told to stop.
pub(crate) fn on_signal(then: impl FnOnce() + Send + 'static) {
    let (ready, installed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let stopped = stopped();
            let _ = ready.send(());
            stopped.await;
        });
        then();
    });
    // Without the handler the signal ends the process at once, as ever.
    let _ = installed.recv();
}

/// Resolves when this process is told to stop; the signals are caught from the call on.
pub(crate) fn stopped() -> impl Future<Output = ()> {
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
