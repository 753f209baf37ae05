//! A tunnel key is replaced, ours or a peer's, and no packet is lost.
//!
//! Whoever replaces its key says so in its NodeInfo and goes on to accept those before, for
//! `KEPT`. A peer that reads it makes a second tunnel beside the one in use, which carries
//! everything until the new one is proved; then they change places, and the old one still
//! opens what was under way. One that slept through it knocks with the old key and learns the
//! new one in the session that follows. A silent peer is dialled with each of our keys in turn,
//! until it has used the present one: it may have slept through several changes.
//! Bounds: `MOST_PREVIOUS` keys before, over it the oldest goes; `MOST_BESIDE` tunnels beside the one in use, the oldest goes first; each `BESIDE` unless
//! it is live; a new tunnel that nobody answers is given up after `TRY`, and tried again with the
//! next handshake.
//! Absent: key files, and when to replace a key.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use x25519_dalek::StaticSecret;

use super::Node;
use crate::error::RotateError;
use crate::id::NodeId;
use crate::snapshot::Rotation;
use crate::time::Now;
use crate::trust::NodeInfo;
use crate::tunnel::keys::{MOST_PREVIOUS, PreviousKey, TunnelKey, TunnelPublic};
use crate::tunnel::session::{Gate, Opened, Pair, Session};
use crate::tunnel::table::Owner;

/// How long a key that was replaced is accepted: a machine that was away for a month comes back.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How long connected peers may take to change over before the key may be replaced again.
const CHANGE: Duration = Duration::from_secs(600);

const MOST_BESIDE: usize = 4;
const BESIDE: Duration = Duration::from_secs(30);
const TRY: Duration = Duration::from_secs(20);

/// A tunnel beside the one in use: on its way in, or on its way out.
#[derive(Debug)]
pub(crate) struct Beside {
    session: Session,
    since: Instant,
    /// Our initiations go through it.
    dialled: bool,
}

/// The tunnels with one peer but the one in use, and what is known of its keys and ours.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    beside: Vec<Beside>,
    /// The key it had before its present one.
    pub(super) previous: Option<TunnelPublic>,
    /// Whether it has used our present key.
    knows_ours: bool,
    /// Counts the attempts in which our keys take turns.
    turn: usize,
}

impl Tunnels {
    /// Opens a datagram in whichever tunnel it is for: its index, and what it is.
    pub(super) fn open(
        &mut self,
        current: &mut Option<Session>,
        source: IpAddr,
        datagram: &[u8],
    ) -> Option<(u32, Opened)> {
        let all = current
            .iter_mut()
            .chain(self.beside.iter_mut().map(|beside| &mut beside.session));
        let mut opened = None;
        for session in all {
            if !session.may_open(datagram) {
                continue;
            }
            opened = Some((session.index(), session.open(source, datagram)));
            if !matches!(opened, Some((_, Opened::Refused))) {
                break;
            }
        }
        opened
    }

    /// The tunnel that initiations go through.
    pub(super) fn dialled<'a>(
        &'a mut self,
        current: &'a mut Option<Session>,
    ) -> Option<&'a mut Session> {
        let beside = self.beside.iter_mut().find(|beside| beside.dialled);
        beside
            .map(|beside| &mut beside.session)
            .or(current.as_mut())
    }

    /// Whether a new tunnel is being made beside the one in use.
    pub(super) fn is_moving(&self) -> bool {
        self.beside.iter().any(|beside| beside.dialled)
    }

    fn has(&self, pair: Pair) -> bool {
        self.beside
            .iter()
            .any(|beside| beside.session.pair() == pair)
    }

    /// Every tunnel, given up.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Session> {
        std::mem::take(&mut self.beside)
            .into_iter()
            .map(|beside| beside.session)
    }
}

impl Node {
    /// Takes a new tunnel key into use: it is published, and peers change over by themselves. The
    /// owner has stored both keys before. Refused while a live peer still uses the one before the
    /// present one.
    pub(crate) fn handle_rotate(&mut self, key: TunnelKey, now: Now) -> Result<(), RotateError> {
        self.may_rotate(now)?;
        if key.public() == self.identity.tunnel.public() {
            return Err(RotateError::Same);
        }
        tracing::info!(key = %key.public(), "tunnel key replaced");
        let old = std::mem::replace(&mut self.identity.tunnel, key);
        self.secret = self.identity.tunnel.secret();
        let mut previous = std::mem::take(&mut self.previous);
        let replaced_ms = now.wall_ms();
        previous.insert(
            0,
            PreviousKey {
                key: old,
                replaced_ms,
            },
        );
        self.accept_previous(previous);
        for peer in self.peers.values_mut() {
            peer.tunnels.knows_ours = false;
            peer.tunnels.turn = 0;
        }
        self.publish_own_info(now);
        Ok(())
    }

    /// Whether the key may be replaced: the last change has reached those who are connected, or had
    /// `CHANGE` for it, and somebody at least uses the present key. Else the only key that others
    /// know could be forgotten here.
    pub(crate) fn may_rotate(&self, now: Now) -> Result<(), RotateError> {
        let Some(last) = self.previous.first() else {
            return Ok(());
        };
        let peers = self.unmoved().len();
        let had_time = now.wall_ms() >= last.replaced_ms.saturating_add(CHANGE.as_millis() as u64);
        if peers > 0 && !had_time {
            return Err(RotateError::UnderWay { peers });
        }
        if !self.is_known() {
            return Err(RotateError::Unknown);
        }
        Ok(())
    }

    /// Whether some peer has used our present key, or there is none.
    fn is_known(&self) -> bool {
        let mut peers = self.peers.values();
        self.peers.is_empty() || peers.any(|peer| peer.tunnels.knows_ours)
    }

    /// Accepts these keys besides the present one. None is given up here for its age: it may be the
    /// only one others know.
    pub(super) fn accept_previous(&mut self, mut previous: Vec<PreviousKey>) {
        // A power cut may have come between the two files.
        let present = self.identity.tunnel.public();
        previous.retain(|previous| previous.key.public() != present);
        previous.dedup_by_key(|previous| previous.key.public());
        previous.truncate(MOST_PREVIOUS);
        self.previous = previous;
        self.gate = Gate::new(&self.secret);
        for previous in &self.previous {
            self.gate.accept_too(&previous.key.secret());
        }
    }

    /// Forgets the key before, once everybody had time enough.
    pub(super) fn forget_previous_if_due(&mut self, now: Now) {
        // A time before the mesh was founded is none: the clock was wrong.
        let founded_ms = self
            .state
            .genesis
            .as_ref()
            .map_or(0, |genesis| genesis.created_ms);
        let over =
            |previous: &PreviousKey| previous.replaced_ms >= founded_ms && is_over(previous, now);
        if self.previous.iter().any(over) && self.is_known() {
            tracing::info!("a tunnel key before is accepted no more");
            let mut previous = std::mem::take(&mut self.previous);
            previous.retain(|previous| !over(previous));
            self.accept_previous(previous);
            self.publish_own_info(now);
        }
    }

    /// Connected peers whose session still uses the key before.
    pub(super) fn unmoved(&self) -> Vec<NodeId> {
        let present = self.identity.tunnel.public();
        let stays = |id: &NodeId| {
            let session = self.peers.get(id).and_then(|peer| peer.session.as_ref());
            session.is_some_and(|session| session.pair().ours != present)
        };
        self.connected().filter(stays).collect()
    }

    /// How far the change of this node's key has come.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        self.previous.first().map(|previous| Rotation {
            replaced_ms: previous.replaced_ms,
            unmoved: self.unmoved(),
        })
    }

    /// The secrets others may encrypt to, the present one first.
    pub(super) fn secrets(&self) -> Vec<StaticSecret> {
        let previous = self.previous.iter().map(|previous| previous.key.secret());
        std::iter::once(self.secret.clone())
            .chain(previous)
            .collect()
    }

    fn secret_of(&self, public: TunnelPublic) -> StaticSecret {
        let mut previous = self.previous.iter();
        previous
            .find(|previous| previous.key.public() == public)
            .map_or_else(|| self.secret.clone(), |previous| previous.key.secret())
    }

    /// An initiation that no tunnel takes may be for keys of which there is none yet.
    pub(super) fn open_in_another(
        &mut self,
        id: NodeId,
        source: IpAddr,
        datagram: &[u8],
        now: Now,
    ) -> Option<(u32, Opened)> {
        let peer = self.peers.get(&id)?;
        if !Session::is_initiation(datagram) || now.wall_us < 0 {
            return None;
        }
        let in_use = peer.session.as_ref().map(Session::pair);
        let previous = self.previous.iter().map(|previous| previous.key.public());
        let ours = std::iter::once(self.identity.tunnel.public()).chain(previous);
        let theirs = [peer.key, peer.tunnels.previous].into_iter().flatten();
        let pairs = theirs.flat_map(|theirs| ours.clone().map(move |ours| Pair { ours, theirs }));
        let unused = pairs.filter(|pair| Some(*pair) != in_use && !peer.tunnels.has(*pair));
        for pair in unused.collect::<Vec<_>>() {
            let index = self.table.allocate(Owner::Peer(id), &mut self.random);
            let mut session = Session::new(&self.secret_of(pair.ours), pair.theirs, index);
            let opened = session.open(source, datagram);
            if opened != Opened::Refused {
                self.put_beside(id, session, false, now);
                return Some((index, opened));
            }
            self.table.free(index);
        }
        None
    }

    fn put_beside(&mut self, id: NodeId, session: Session, dialled: bool, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return self.table.free(session.index());
        };
        let beside = &mut peer.tunnels.beside;
        if dialled {
            beside.iter_mut().for_each(|beside| beside.dialled = false);
        }
        beside.push(Beside {
            session,
            since: now.mono,
            dialled,
        });
        if beside.len() > MOST_BESIDE {
            let worst = beside.iter().position(|beside| !beside.dialled);
            let gone = beside.remove(worst.unwrap_or(0));
            self.table.free(gone.session.index());
        }
    }

    /// A tunnel beside the one in use is proved. It takes that one's place unless that one is live
    /// and of newer keys.
    pub(super) fn proved(&mut self, id: NodeId, index: u32, now: Now) {
        let present = self.identity.tunnel.public();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let newest = peer.key;
        let age =
            |pair: Pair| u8::from(pair.ours == present) + u8::from(Some(pair.theirs) == newest);
        let beside = &mut peer.tunnels.beside;
        if let Some(at) = beside.iter().position(|b| b.session.index() == index) {
            let live = peer.session.as_ref().filter(|session| session.is_live());
            if live.is_none_or(|live| age(beside[at].session.pair()) >= age(live.pair())) {
                let proved = beside.remove(at);
                let was = peer.session.replace(proved.session);
                tracing::debug!(peer = %id.short(), "another tunnel is in use");
                peer.renewal = None;
                if let Some(was) = was {
                    self.put_beside(id, was, false, now);
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(session) = peer.session.as_ref() else {
            return;
        };
        peer.tunnels.knows_ours |= session.is_live() && session.pair().ours == present;
        self.move_if_replaced(id, now);
    }

    /// Makes a tunnel to the peer's present key beside the one in use, if that one is of another.
    pub(super) fn move_if_replaced(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (Some(session), Some(theirs)) = (peer.session.as_ref(), peer.key) else {
            return;
        };
        let pair = Pair {
            theirs,
            ..session.pair()
        };
        if session.pair() == pair || peer.tunnels.has(pair) || now.wall_us < 0 {
            return;
        }
        peer.dial.reset(now.mono, &mut self.random);
        let secret = self.secret_of(pair.ours);
        let index = self.table.allocate(Owner::Peer(id), &mut self.random);
        self.put_beside(id, Session::new(&secret, theirs, index), true, now);
    }

    /// Where a silent peer may know our present key or only one before, they take turns, the one
    /// before the present one first.
    pub(super) fn take_turns(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self
            .peers
            .get_mut(&id)
            .filter(|_| !self.previous.is_empty())
        else {
            return;
        };
        let tunnels = &mut peer.tunnels;
        let (Some(session), Some(theirs)) = (&peer.session, peer.key) else {
            return;
        };
        if session.is_live() || tunnels.knows_ours {
            return;
        }
        let mut keys: Vec<_> = self.previous.iter().map(|p| p.key.public()).collect();
        keys.insert(1, self.identity.tunnel.public());
        let ours = keys[tunnels.turn % keys.len()];
        tunnels.turn += 1;
        let pair = Pair { ours, theirs };
        for beside in &mut tunnels.beside {
            beside.dialled = beside.session.pair() == pair;
        }
        if session.pair() == pair || tunnels.is_moving() {
            return;
        }
        let secret = self.secret_of(ours);
        let index = self.table.allocate(Owner::Peer(id), &mut self.random);
        self.put_beside(id, Session::new(&secret, theirs, index), true, now);
    }

    /// Keeps the tunnels beside the one in use going, and lets go of those that have had their time.
    pub(super) fn tick_beside(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let in_use = peer.session.as_ref().is_some_and(Session::is_live);
        for beside in &mut peer.tunnels.beside {
            // The own redial decides what is sent.
            let _unsent = beside.session.tick();
        }
        let table = &mut self.table;
        peer.tunnels.beside.retain(|beside| {
            let age = now.mono.saturating_duration_since(beside.since);
            let over = match beside.dialled {
                true => in_use && age >= TRY,
                false => !beside.session.is_live() && age >= BESIDE,
            };
            if over {
                table.free(beside.session.index());
            }
            !over
        });
    }

    /// Lets a peer's keys lead to it, the present one and the one before. False if another member
    /// has the present one, or an invite: whoever published that would answer for the joiners.
    pub(super) fn claim_keys(&mut self, id: NodeId, info: &NodeInfo) -> bool {
        if self.is_of_invite(info.tunnel) || !self.table.claim_key(info.tunnel, id) {
            return false;
        }
        let previous = info
            .tunnel_previous
            .filter(|key| *key != info.tunnel && !self.is_of_invite(*key))
            .filter(|key| self.table.claim_key(*key, id));
        let Some(peer) = self.peers.get_mut(&id) else {
            return true;
        };
        let before = [peer.key, peer.tunnels.previous];
        peer.tunnels.previous = previous;
        for old in before.into_iter().flatten() {
            if old != info.tunnel && Some(old) != previous {
                self.release_key_of(id, old);
            }
        }
        true
    }

    /// Takes the keys of invites from members that claimed them before the invite came here.
    pub(super) fn free_invites_keys(&mut self) {
        let state = std::sync::Arc::clone(&self.state);
        for key in state.invites.values().map(|invite| invite.invite.tunnel) {
            let Some(id) = self.table.by_key(key) else {
                continue;
            };
            self.table.release_key(key);
            self.drop_session(id);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.key = peer.key.filter(|present| *present != key);
                peer.tunnels.previous = None;
            }
        }
    }

    /// Forgets that a key leads to a peer.
    pub(super) fn release_key_of(&mut self, id: NodeId, key: TunnelPublic) {
        if self.table.by_key(key) == Some(id) {
            self.table.release_key(key);
        }
    }
}

fn is_over(previous: &PreviousKey, now: Now) -> bool {
    now.wall_ms() > previous.replaced_ms.saturating_add(KEPT.as_millis() as u64)
}
