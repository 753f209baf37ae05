//! Statements on their way in and on.
//!
//! What peers bring is checked and taken at once, and folded once for all that came together, or
//! soon after (`FOLDS`): a fold costs as much for one statement as for a thousand. What counts is kept and pushed on; what
//! doesn't (yet) waits in the set and goes no further, so that a member cannot make others carry a
//! stranger's words.
//! Bounds: a budget for each bringer and, for what an author replaces, each author (`quota`);
//! `MOST_QUESTIONS` questions between two folds and `MOST_UNCOUNTED` statements that may yet count,
//! more are dropped: anti-entropy brings them again. Whoever is at fault is named: the bringer of a
//! forgery, the author of what it signed.

use std::collections::VecDeque;

use super::{MOST_OUTGOING, Node};
use crate::allowance::Allowance;
use crate::id::NodeId;
use crate::quota::FORGED;
use crate::reckoning::Offence;
use crate::spread::sync;
use crate::time::Now;
use crate::trust::{Refusal, Statement, kind as statement_kind};
use crate::wire::message::{self, Summary, kind};

const MOST_QUESTIONS: usize = 128;
const MOST_UNCOUNTED: usize = 256;

/// Folds over what others brought, a second and at once. In a mesh of hundreds one takes a
/// millisecond, and a member could bring strangers' words one by one.
const FOLDS: (f64, f64) = (20.0, 32.0);

/// So many new statements are folded though it is not time: the work is shared by all of them.
const ENOUGH: usize = 64;

/// What came since the last fold, and what came before and did not count by then.
#[derive(Debug)]
pub(super) struct Inbox {
    new: Vec<Taken>,
    uncounted: VecDeque<Taken>,
    questions: Vec<(NodeId, Summary, bool)>,
    folds: Allowance,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            new: Vec::new(),
            uncounted: VecDeque::new(),
            questions: Vec::new(),
            folds: Allowance::new(FOLDS.0, FOLDS.1),
        }
    }
}

/// A statement that was taken in; `None` brought what was said here.
#[derive(Debug)]
struct Taken {
    statement: Statement,
    from: Option<NodeId>,
}

impl Inbox {
    fn is_due(&mut self, now: Now) -> bool {
        self.new.len() >= ENOUGH || self.folds.take(1.0, now.mono)
    }
}

impl Node {
    /// The other side says what it holds, and as an offer wants to know what we have more. Answers
    /// are bounded, and leave half of the way out to what others wait for; whoever misses one asks
    /// again.
    pub(super) fn summary(
        &mut self,
        id: NodeId,
        (theirs, trust): (Summary, Option<[u8; 32]>),
        offer: bool,
        now: Now,
    ) {
        let ours = self.roots();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let same = peer.sync.learn(theirs.root, trust, &ours);
        self.settled |= same;
        if theirs.range.is_none() && peer.connected {
            peer.sync.wait_for_push(now.mono);
        }
        self.connect_if_agreed(id, now);
        if same {
            return;
        }
        if theirs.range.is_none() {
            return self.summarise_if_due(id, now);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let granted = peer.quota.questions.take(1.0, now.mono);
        if !granted || self.inbox.questions.len() >= MOST_QUESTIONS {
            self.drop_one("asked too often");
            return self.blame(id, Offence::Questions, now);
        }
        self.inbox.questions.push((id, theirs, offer));
        if self.inbox.new.is_empty() {
            self.answer_questions(now);
        }
    }

    fn answer_questions(&mut self, now: Now) {
        for (id, theirs, offer) in std::mem::take(&mut self.inbox.questions) {
            self.answer_question(id, &theirs, offer, now);
        }
    }

    fn answer_question(&mut self, id: NodeId, theirs: &Summary, offer: bool, now: Now) {
        if self.outgoing.len() >= MOST_OUTGOING / 2 {
            return self.drop_one("statements put off");
        }
        for body in message::pack(&sync::missing(&self.statements, theirs)) {
            let cost = body.len() as f64;
            if !self.grants(id, |quota| quota.answers.take(cost, now.mono)) {
                self.drop_one("statements put off");
                break;
            }
            self.say(id, kind::STATEMENTS, &body, now);
        }
        if offer && let Some(want) = sync::want(&self.statements, theirs) {
            let body = message::encode_with_trust(&want, &self.trust);
            self.say(id, kind::WANT, &body, now);
        }
    }

    /// Sends what we hold, in ranges, if the sets are known to differ and it wasn't just sent.
    pub(super) fn summarise_if_due(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        // With a fold ahead the summary would be of yesterday; the next tick sends it.
        if !self.inbox.new.is_empty() || !peer.sync.take_summary_due(now.mono) {
            return;
        }
        for summary in peer.sync.summary(&self.statements) {
            let body = message::encode_with_trust(&summary, &self.trust);
            self.say(id, kind::SUMMARY, &body, now);
        }
    }

    /// Takes what a peer brought; one refused statement costs that one.
    pub(super) fn statements_from(&mut self, id: NodeId, statements: Vec<Statement>, now: Now) {
        for statement in statements {
            if !self.grants(id, |quota| quota.statements.take(1.0, now.mono)) {
                self.drop_one("statements too many");
                self.blame(id, Offence::StatementFlood, now);
                continue;
            }
            if let Err(refusal) = self.statement_from(id, statement, now) {
                tracing::debug!(peer = %id.short(), %refusal, "statement refused");
                self.drop_one("statement refused");
            }
        }
    }

    fn statement_from(
        &mut self,
        id: NodeId,
        statement: Statement,
        now: Now,
    ) -> Result<(), Refusal> {
        let author = NodeId(statement.author);
        let checked = match self.statements.check(statement) {
            Ok(None) => return Ok(()),
            Ok(Some(checked)) => checked,
            Err(refusal @ Refusal::Quota { .. }) => {
                self.blame(author, Offence::StatementQuota, now);
                return Err(refusal);
            }
            Err(refusal) => {
                self.blame(id, Offence::ForgedStatement, now);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.quota.statements.charge(FORGED);
                }
                return Err(refusal);
            }
        };
        let restless = checked.is_note()
            && self
                .peers
                .get_mut(&author)
                .is_some_and(|peer| !peer.quota.notes.take(1.0, now.mono));
        if restless {
            self.drop_one("statement put off");
            self.blame(author, Offence::Restless, now);
            return Ok(());
        }
        checked.received(now.wall_ms());
        let statement = self.statements.take(checked);
        let from = Some(id);
        self.inbox.new.push(Taken { statement, from });
        Ok(())
    }

    /// Takes statements that were made or vouched for here, stores and spreads them at once; says
    /// whether anything was new, and the last refusal.
    pub(super) fn take_statements(
        &mut self,
        statements: Vec<Statement>,
        now: Now,
    ) -> (bool, Result<(), Refusal>) {
        let (mut grew, mut refused) = (false, Ok(()));
        for statement in statements {
            match self.statements.insert(statement.clone()) {
                Ok(true) => {
                    grew = true;
                    self.statements.received(&statement, now.wall_ms());
                    let from = None;
                    self.inbox.new.push(Taken { statement, from });
                }
                Ok(false) => {}
                Err(refusal) => refused = Err(refusal),
            }
        }
        self.owes_write |= grew;
        self.conclude_at_once(now);
        (grew, refused)
    }

    /// Folds what came since the last time, stores and passes on what counts, and answers the
    /// questions that waited for it. What others brought may wait for its turn, at most until the
    /// tick after it.
    pub(crate) fn conclude(&mut self, now: Now) {
        if self.inbox.new.is_empty() || self.inbox.is_due(now) {
            self.conclude_at_once(now);
        }
    }

    fn conclude_at_once(&mut self, now: Now) {
        if !self.inbox.new.is_empty() {
            self.fold(now);
        }
        self.answer_questions(now);
    }

    fn fold(&mut self, now: Now) {
        let new = std::mem::take(&mut self.inbox.new);
        self.root = self.statements.root();
        self.trust = self.statements.trust_root();
        for peer in new.iter().filter_map(|taken| taken.from) {
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.sync.grew(self.root);
            }
        }
        let earlier = std::mem::take(&mut self.inbox.uncounted);
        let (counted, uncounted): (Vec<_>, Vec<_>) = earlier
            .into_iter()
            .chain(new)
            .partition(|taken| taken.from.is_none() || self.statements.counts(&taken.statement));
        self.inbox.uncounted = uncounted.into();
        while self.inbox.uncounted.len() > MOST_UNCOUNTED {
            self.inbox.uncounted.pop_front();
        }
        // Whoever brought it reads from the digest that it is held here, for good.
        let evicts = |taken: &Taken| taken.statement.kind == statement_kind::REVOKE;
        self.owes_write |= counted.iter().any(evicts);
        self.pass_on(&counted, now);
        let kept = counted.into_iter().map(|taken| taken.statement);
        self.journal.extend(kept);
        self.meet_members(now);
        self.face_own_state(now);
        self.connect_agreed(now);
    }

    /// To every peer all but what it brought itself, and what we hold by then: who brought
    /// something reads from it that it has arrived.
    fn pass_on(&mut self, counted: &[Taken], now: Now) {
        if counted.is_empty() {
            return;
        }
        let peers: Vec<NodeId> = self.met().collect();
        for id in peers {
            let others = counted.iter().filter(|taken| taken.from != Some(id));
            for body in message::pack(others.map(|taken| &taken.statement)) {
                self.say(id, kind::STATEMENTS, &body, now);
            }
            self.tell_root(id, now);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.sync.changed(now.mono);
            }
        }
    }
}
