//! Whether a peer is heard, its round trip and its clock.
//!
//! In: authenticated data, answers to pings, goodbyes. Out: the state, and when to ask again.
//! Invariant: nothing but authenticated data in a session counts as life. Absent: membership,
//! which silence never touches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::path::dial;
use crate::snapshot::PeerState;
use crate::time::Now;
use crate::wire::message::Pong;

/// How long after its last data a peer is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// How long after its last data a peer is merely stale.
const STALE: Duration = Duration::from_secs(10);

/// When a peer is given a sign of life, and when it is asked for one.
///
/// Who has nothing to say to a peer sends it an empty packet, a quarter of what a question and its answer
/// come to. A question goes out only when one of these was lost. Both sides lose them in the same moment and would ask in
/// the same one, so one goes first: its question and the answer are signs of life for both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// An own silence that is ended with a sign of life.
    give: Duration,
    /// A silence of the peer's that asks.
    after: Duration,
    /// Round trips are measured at least this often.
    measure: Duration,
}

impl Pace {
    /// Where the other's silence shows after `ALIVE`: leaves half a second, or a quarter, for the answer.
    pub(crate) fn close(first: bool) -> Self {
        Self {
            give: Duration::from_millis(2_200),
            after: Duration::from_millis(if first { 2_500 } else { 2_750 }),
            measure: Duration::from_secs(60),
        }
    }

    /// Where several others watch the peer as well.
    pub(crate) fn rare(first: bool) -> Self {
        Self {
            give: Duration::from_secs(4),
            after: Duration::from_secs(if first { 5 } else { 6 }),
            measure: Duration::from_secs(60),
        }
    }

    /// Whether a peer that was last told something then is to be given a sign of life.
    pub(crate) fn is_give_due(&self, said: Option<Instant>, now: Instant) -> bool {
        said.is_none_or(|said| now >= said + self.give)
    }
}

/// The shortest pause between two pings.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Clocks that differ by more are asked for this often: somebody may be setting one right.
const WRONG: Duration = Duration::from_secs(2);
const WATCH_CLOCK: Duration = Duration::from_secs(15);

/// Unanswered pings remembered; an answer to an older one counts for nothing.
const PINGS: usize = 4;

/// The part a new measurement has in the smoothed values, as in TCP.
const WEIGHT: f64 = 0.125;

/// What is known of one peer's life.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    heard: Option<Now>,
    left: bool,
    pings: VecDeque<(u32, Now)>,
    asked: Option<Instant>,
    next_number: u32,
    rtt: Option<Duration>,
    offset_us: Option<i64>,
}

impl Liveness {
    /// Authenticated data arrived.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = Some(now);
    }

    /// The peer said goodbye.
    pub(crate) fn left(&mut self) {
        self.left = true;
    }

    /// The peer began a new session after a goodbye.
    pub(crate) fn returned(&mut self) {
        self.left = false;
    }

    /// Whether it said goodbye and was not heard since.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// The state at this moment.
    pub(crate) fn state(&self, now: Instant) -> PeerState {
        match self.silence(now) {
            _ if self.left => PeerState::Left,
            Some(silence) if silence <= ALIVE => PeerState::Alive,
            Some(silence) if silence <= STALE => PeerState::Stale,
            _ => PeerState::Down,
        }
    }

    /// How long nothing was heard. `None` = never heard.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        self.heard
            .map(|heard| now.saturating_duration_since(heard.mono))
    }

    /// Whether something was heard within this time.
    pub(crate) fn heard_within(&self, time: Duration, now: Instant) -> bool {
        self.silence(now).is_some_and(|silence| silence <= time)
    }

    /// Wall time of the last data, milliseconds.
    pub(crate) fn heard_ms(&self) -> Option<u64> {
        self.heard.map(|heard| heard.wall_ms())
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The peer's wall clock less ours, milliseconds.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        self.offset_us.map(|offset| offset / 1_000)
    }

    /// The number of a ping to send, when one is due: after a silence, again each second while it
    /// is short, then ever more slowly; and for the round trip while all is well, best `beside` something that
    /// leaves anyway.
    pub(crate) fn ask(&mut self, pace: Pace, beside: bool, now: Now) -> Option<u32> {
        let silence = self.silence(now.mono)?;
        let pause = match (self.asked, silence < pace.after) {
            (None, _) => Duration::ZERO,
            (Some(_), true) if beside => ASK_AGAIN,
            (Some(_), true) if self.is_clock_wrong() => WATCH_CLOCK,
            (Some(_), true) => pace.measure,
            (Some(_), false) => dial::pause(silence).max(ASK_AGAIN),
        };
        if self.asked.is_some_and(|asked| now.mono < asked + pause) {
            return None;
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.asked = Some(now.mono);
        self.pings.push_back((number, now));
        if self.pings.len() > PINGS {
            self.pings.pop_front();
        }
        Some(number)
    }

    fn is_clock_wrong(&self) -> bool {
        let wrong = |offset: i64| offset.unsigned_abs() > WRONG.as_micros() as u64;
        self.offset_us.is_some_and(wrong)
    }

    /// Takes an answer: the round trip, and by four timestamps the other clock. False when nobody
    /// had asked.
    pub(crate) fn answered(&mut self, pong: &Pong, now: Now) -> bool {
        let Some(at) = self
            .pings
            .iter()
            .position(|(number, _)| *number == pong.number)
        else {
            return false;
        };
        let (_, sent) = self.pings[at];
        self.pings.drain(..=at);
        let rtt = now.mono.saturating_duration_since(sent.mono);
        self.rtt = Some(match self.rtt {
            Some(old) => old.mul_f64(1.0 - WEIGHT) + rtt.mul_f64(WEIGHT),
            None => rtt,
        });
        let there = pong.received_us.saturating_sub(sent.wall_us);
        let back = pong.sent_us.saturating_sub(now.wall_us);
        self.offset_us = Some(there / 2 + back / 2);
        true
    }

    /// It goes another way: the round trip is another, and asked for at once.
    pub(crate) fn moved(&mut self) {
        self.begin_session();
        self.measure_anew();
        self.rtt = None;
    }

    /// The peer was away, or has started again: its clock may be another, and is asked for at once.
    pub(crate) fn measure_anew(&mut self) {
        self.asked = None;
    }

    /// The session is new: old questions will not be answered.
    pub(crate) fn begin_session(&mut self) {
        self.pings.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use PeerState::{Alive, Down, Left, Stale};

    use super::*;

    fn answer(number: u32, received_us: i64, sent_us: i64) -> Pong {
        Pong {
            number,
            received_us,
            sent_us,
            observed: SocketAddr::from(([192, 0, 2, 1], 9)),
        }
    }

    #[test]
    fn the_state_follows_the_age_of_the_last_data() {
        let start = Now::real();
        let mut peer = Liveness::default();
        assert_eq!(peer.state(start.mono), Down);

        peer.heard(start);

        let states: Vec<_> = [0, 3_000, 3_001, 10_000, 10_001]
            .map(|age| peer.state(start.mono + Duration::from_millis(age)))
            .into();
        assert_eq!(states, [Alive, Alive, Stale, Stale, Down]);
        peer.left();
        peer.heard(start);
        assert_eq!(peer.state(start.mono), Left);
        peer.returned();
        assert_eq!(peer.state(start.mono), Alive);
    }

    #[test]
    fn a_peer_that_answers_stays_alive_though_nobody_speaks() {
        let mut now = Now::real();
        let mut peer = Liveness::default();
        peer.heard(now);
        let mut asked = 0;
        for _ in 0..4 * 300 {
            now = now.after(Duration::from_millis(250));
            if let Some(number) = peer.ask(Pace::close(true), false, now) {
                asked += 1;
                let later = now.after(Duration::from_millis(80));
                peer.heard(later);
                peer.answered(
                    &answer(number, now.wall_us + 5_040_000, now.wall_us + 5_040_000),
                    later,
                );
            }
            assert_eq!(peer.state(now.mono), Alive);
        }

        assert!((100..160).contains(&asked), "{asked} pings in 300 s");
        assert_eq!(peer.rtt().map(|rtt| rtt.as_millis()), Some(80));
        assert_eq!(peer.offset_ms(), Some(5_000));
    }

    #[test]
    fn a_dead_peer_is_asked_ever_more_slowly() {
        let mut now = Now::real();
        let mut peer = Liveness::default();
        peer.heard(now);
        let mut asked = 0;
        for _ in 0..3_600 * 4 {
            now = now.after(Duration::from_millis(250));
            asked += u32::from(peer.ask(Pace::close(true), false, now).is_some());
        }
        assert!((80..160).contains(&asked), "{asked} pings in an hour");
    }
}
