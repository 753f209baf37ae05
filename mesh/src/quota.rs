//! What one member may ask and say, each thing by its own budget.
//!
//! Every budget is several times what the busiest honest peer needs and a small part of what one
//! core can do, so a flood is refused for the price of reading it and nobody else is late.
//! Absent: bulk, which `replica`'s buckets pace, and strangers, which the limiter bounds.

use crate::allowance::Allowance;
use crate::spread::sync::RANGES_AT_ONCE;

/// Statements taken from one peer: what an honest one answers with, and one core's tenth if all
/// must be verified.
const STATEMENTS: (f64, f64) = (1_024.0, 8_192.0);
/// What a statement costs that turned out forged: 16 a second are looked at.
pub(crate) const FORGED: f64 = 64.0;
/// Times an author may replace what it says of itself: a start says it twice, a changed address
/// once. Others are pushed each change and dial the addresses in it, so a change must be rare.
const NOTES: (f64, f64) = (0.1, 8.0);
/// Questions about statements: in 200 ms, the pause between two summaries, one round of a full
/// summary's ranges and one of wants.
const QUESTIONS: (f64, f64) = (
    5.0 * 2.0 * RANGES_AT_ONCE as f64,
    2.0 * RANGES_AT_ONCE as f64,
);
/// Bytes of statements sent in answer to one peer's questions.
const ANSWERS: (f64, f64) = (256_000.0, 1_048_576.0);
/// Messages of the application: eight parts of a live row a second, seals, digests, and room for
/// as much again four times over.
const MESSAGES: (f64, f64) = (256.0, 1_024.0);
/// Packets of streams: 4 MB/s, the most that repair takes.
const PACKETS: (f64, f64) = (4_096.0, 4_096.0);
/// Greetings, pings, pongs, goodbyes, and frames of kinds unknown here.
const TALK: (f64, f64) = (32.0, 256.0);
/// Connections begun: each costs a digest, a key row and two events.
const CONNECTS: (f64, f64) = (0.2, 12.0);
/// Initiations to addresses that a peer published and where it was never heard: a silent member
/// that points at a victim makes each node send it 0.6 kB/s at most.
const DIALS: (f64, f64) = (4.0, 128.0);
/// Handshakes that one peer hands on: a node that starts in a mesh of which it reaches this member alone.
const INTRODUCTIONS: (f64, f64) = (8.0, 128.0);
/// Handshakes of one peer that others hand on: three relays asked each few seconds.
const INTRODUCED: (f64, f64) = (2.0, 32.0);
/// Times a peer that asks to hand on is told that it can't be done.
const REFUSALS: (f64, f64) = (2.0, 64.0);
/// Words about others' lives that one peer brings: those about a site of hundreds that went dark, at once.
const BROUGHT: (f64, f64) = (64.0, 1_024.0);
/// Words one member says, whoever brings them: a pick or two of its that fell silent, and all of them at once.
const SPOKEN: (f64, f64) = (0.5, 64.0);

/// The budgets of one peer.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) statements: Allowance,
    pub(crate) notes: Allowance,
    pub(crate) questions: Allowance,
    pub(crate) answers: Allowance,
    pub(crate) messages: Allowance,
    pub(crate) packets: Allowance,
    pub(crate) talk: Allowance,
    pub(crate) connects: Allowance,
    pub(crate) dials: Allowance,
    pub(crate) introductions: Allowance,
    pub(crate) introduced: Allowance,
    pub(crate) refusals: Allowance,
    pub(crate) brought: Allowance,
    pub(crate) spoken: Allowance,
}

impl Default for Quota {
    fn default() -> Self {
        let allow = |(per_second, at_once)| Allowance::new(per_second, at_once);
        Self {
            statements: allow(STATEMENTS),
            notes: allow(NOTES),
            questions: allow(QUESTIONS),
            answers: allow(ANSWERS),
            messages: allow(MESSAGES),
            packets: allow(PACKETS),
            talk: allow(TALK),
            connects: allow(CONNECTS),
            dials: allow(DIALS),
            introductions: allow(INTRODUCTIONS),
            introduced: allow(INTRODUCED),
            refusals: allow(REFUSALS),
            brought: allow(BROUGHT),
            spoken: allow(SPOKEN),
        }
    }
}
