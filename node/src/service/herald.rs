//! What the service manager hears: ready, alive, stopping, and a line for `systemctl status`.
//!
//! In: the daemon's news, how often its loops went round. Out: datagrams to `NOTIFY_SOCKET`; without one, nothing.
//! Invariant: "alive" is said at half the watchdog's time, and only when every loop moved since the last time.
//! Absent: ending a stuck process; the service manager does that when it hears nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::watchdog::Watchdog;

/// How often the line for `systemctl status` is looked at; it is sent when it changed.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The voice of this process.
#[derive(Debug)]
pub(crate) struct Herald {
    /// How long the service manager waits for a sign of life. `None` = it doesn't.
    patience: Option<Duration>,
}

impl Herald {
    /// `None` where nobody listens.
    pub(crate) fn from_env() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let mut micros = 0;
        let waits = sd_notify::watchdog_enabled(false, &mut micros) && micros > 0;
        Some(Self {
            patience: waits.then(|| Duration::from_micros(micros)),
        })
    }

    /// The control socket answers.
    pub(crate) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Says that this node lives, while it does. `news` gives the status line and the loops' counts.
    pub(crate) async fn speak(
        &self,
        mut news: impl FnMut() -> (String, Vec<(&'static str, u64)>),
        stop: CancellationToken,
    ) {
        let mut watchdog = Watchdog::default();
        let mut pings = ticks(self.patience.map(|patience| patience / 2));
        let mut looks = ticks(Some(STATUS_EVERY));
        let (mut told, mut stuck) = (String::new(), None);
        loop {
            let ping = tokio::select! {
                () = stop.cancelled() => return,
                () = due(&mut pings) => true,
                () = due(&mut looks) => false,
            };
            let (mut status, beats) = news();
            if ping {
                stuck = watchdog.handle_beats(beats);
                match stuck {
                    None => tell(&[NotifyState::Watchdog]),
                    Some(part) => tracing::warn!(
                        part,
                        "a loop stands still, the service manager is not told that this node lives"
                    ),
                }
            }
            if let Some(part) = stuck {
                status = format!("stands still: {part}");
            }
            if status != told {
                tell(&[NotifyState::Status(&status)]);
                told = status;
            }
        }
    }
}

fn ticks(every: Option<Duration>) -> Option<Interval> {
    let mut ticks = tokio::time::interval(every?);
    // After a suspend one is due, not all that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

async fn due(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

fn tell(news: &[NotifyState<'_>]) {
    // A service manager that restarts isn't there for a moment; it asks for nothing that was missed.
    if let Err(error) = sd_notify::notify(false, news) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}
