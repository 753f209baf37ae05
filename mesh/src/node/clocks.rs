//! What clocks do to tunnels: a machine that slept, a wall clock that was set, one that is wrong.
//!
//! boringtun reads the wall clock once for each tunnel and stamps initiations from there on by the
//! boot clock; whoever answers takes only newer stamps than the last. So a clock set forward needs
//! new tunnels, one set back is best answered by keeping those there are, and a node that started
//! with a clock that is behind is heard again because the others initiate to it.
//! Absent: setting any clock, and the wall time of samples.

use std::time::Duration;

use super::{Node, TICK};
use crate::id::NodeId;
use crate::peer::Peer;
use crate::time::Now;

/// Two clocks that part by more than this have stepped or slept.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// A tick so late means that the machine slept or the process stood still.
const LATE: Duration = TICK.saturating_mul(3);

/// Clocks of two machines that differ by more than this are worth a notice.
const WORTH_SAYING: Duration = Duration::from_secs(60);

/// How long after an old stamp was forgotten it is shown.
const SHOW_REBUILT: Duration = Duration::from_secs(600);

const DAY_MS: u64 = 24 * 3_600 * 1_000;

const HOW: &str = "set it, for example with `timedatectl set-ntp true`";

impl Node {
    /// Runs the timers before anything else when they are late: what is sealed after a sleep must
    /// not be sealed with keys nobody has looked at since.
    pub(super) fn catch_up(&mut self, now: Now) {
        if self.is_late(now) {
            self.handle_timeout(now);
        }
    }

    pub(super) fn is_late(&self, now: Now) -> bool {
        now.boot.saturating_sub(self.ticked) > LATE
    }

    /// After a sleep, or when the wall clock stepped, silence means nothing: everybody is dialled
    /// anew. After a step forward sessions that are not live take their stamps from the new clock;
    /// after a step back their old stamps are the only ones the others take.
    pub(super) fn watch_clocks(&mut self, now: Now) {
        let mono = now.mono.saturating_duration_since(self.clocks.mono);
        let boot = now.boot.saturating_sub(self.clocks.boot);
        let wall_us = now.wall_us.saturating_sub(self.clocks.wall_us);
        self.clocks = now;
        let slept = boot.saturating_sub(mono) > CLOCK_STEP;
        let boot_us = i64::try_from(boot.as_micros()).unwrap_or(i64::MAX);
        let stepped_us = wall_us.saturating_sub(boot_us);
        let stepped = stepped_us.unsigned_abs() > CLOCK_STEP.as_micros() as u64;
        if !slept && !stepped {
            return;
        }
        tracing::info!(slept, stepped, "clock jumped, dialling everybody");
        if stepped && stepped_us > 0 {
            self.drop_idle_sessions();
        }
        self.redial_everyone(now);
    }

    fn drop_idle_sessions(&mut self) {
        let idle: Vec<NodeId> = self
            .peers
            .values()
            .filter(|peer| !peer.is_live())
            .map(|peer| peer.id)
            .collect();
        for id in idle {
            self.drop_session(id);
        }
    }

    /// What is wrong with this machine's clock or another's, in words that say what to do.
    pub(super) fn clock_notices(&self, now: Now) -> Vec<String> {
        if now.wall_us < 0 {
            return vec![format!(
                "this machine's clock reads a time before 1970, in which no tunnel can be made; \
                 {HOW}: the node goes on measuring, and connects by itself then"
            )];
        }
        if let Some(behind) = self.behind_the_founding(now) {
            return vec![format!(
                "this machine's clock is {} behind the founding of its mesh; {HOW}",
                length(behind)
            )];
        }
        if let Some(offset_ms) = self.offset_to_most(now) {
            return vec![format!(
                "this machine's clock is {} its peers'; {HOW}",
                apart(-offset_ms)
            )];
        }
        self.peers
            .values()
            .filter_map(|peer| self.notice_of(peer, now))
            .collect()
    }

    /// How long before its mesh was founded this machine's clock stands, from a day on.
    fn behind_the_founding(&self, now: Now) -> Option<Duration> {
        let founded = self.state.genesis.as_ref()?.created_ms;
        let behind_ms = founded.saturating_sub(now.wall_ms());
        (behind_ms > DAY_MS).then(|| Duration::from_millis(behind_ms))
    }

    /// By how much the clocks of most connected peers are ahead of ours, milliseconds, when they
    /// all say that it is ours that is wrong. `None` with fewer than two of them.
    fn offset_to_most(&self, now: Now) -> Option<i64> {
        let mut offsets: Vec<i64> = self
            .peers
            .values()
            .filter_map(|peer| offset_of(peer, now))
            .collect();
        offsets.sort_unstable();
        let middle = *offsets.get(offsets.len() / 2)?;
        let least = *offsets.get(offsets.len().saturating_sub(1) / 2)?;
        let agree =
            is_worth_saying(middle) && is_worth_saying(least) && middle.signum() == least.signum();
        (offsets.len() >= 2 && agree).then_some(middle)
    }

    fn notice_of(&self, peer: &Peer, now: Now) -> Option<String> {
        let name = self.name_of(peer.id);
        let offset = offset_of(peer, now).filter(|offset| is_worth_saying(*offset));
        let rebuilt = peer
            .rebuilt
            .is_some_and(|rebuilt| now.mono < rebuilt + SHOW_REBUILT);
        match offset {
            Some(offset_ms) => Some(format!(
                "the clock of {name} is {} this machine's; where it is wrong, {HOW}",
                apart(offset_ms)
            )),
            None if rebuilt => Some(format!(
                "the clock of {name} went back, or somebody replayed an old handshake of it; \
                 if it reads a wrong time there, {HOW}"
            )),
            None => None,
        }
    }
}

/// The clock of a peer that is heard, less ours.
fn offset_of(peer: &Peer, now: Now) -> Option<i64> {
    let heard = peer.connected && peer.liveness.heard_within(WORTH_SAYING, now.mono);
    peer.liveness.offset_ms().filter(|_| heard)
}

fn is_worth_saying(offset_ms: i64) -> bool {
    u128::from(offset_ms.unsigned_abs()) > WORTH_SAYING.as_millis()
}

/// "30 days behind", "2 hours ahead of".
fn apart(offset_ms: i64) -> String {
    let side = if offset_ms < 0 { "behind" } else { "ahead of" };
    format!(
        "{} {side}",
        length(Duration::from_millis(offset_ms.unsigned_abs()))
    )
}

/// A length of time in the unit people would say it in.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => ((seconds + 30) / 60, "minutes"),
        7_200..172_800 => ((seconds + 1_800) / 3_600, "hours"),
        _ => ((seconds + 43_200) / 86_400, "days"),
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_said_as_people_say_it() {
        let said = [61, 119, 120, 7_169, 7_200, 170_999, 172_800, 2_591_997]
            .map(|seconds| length(Duration::from_secs(seconds)));
        assert_eq!(
            said,
            [
                "61 seconds",
                "119 seconds",
                "2 minutes",
                "119 minutes",
                "2 hours",
                "47 hours",
                "2 days",
                "30 days"
            ]
        );
        assert_eq!(apart(-2_592_000_000), "30 days behind");
        assert_eq!(apart(7_200_000), "2 hours ahead of");
    }
}
