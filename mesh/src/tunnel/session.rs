//! WireGuard with one peer, and the gate every datagram passes first. The only file that names
//! boringtun; everything the crate leaves to its caller is done here or decided by `node`.
//!
//! `Gate::inspect` looks at a datagram before any session does: length, `mac1`, whether its source
//! is proved by a cookie, and whether one more handshake is afforded.
//! `Session` seals inner packets, opens datagrams, begins handshakes, keeps the timers running.
//! Invariants: nothing longer than `MAX_DATAGRAM` reaches boringtun (it would panic); `seal` pads,
//! and calls it only with a session the other side has proved (its own queue reorders and sends
//! crossing initiations); an accepted initiation proves nothing until data decrypts. boringtun
//! counts sealed packets in 64 bits and never looks at them; keys live for 180 s, so no counter
//! can come near its end.
//! Absent: addresses. Who a datagram goes to and what a source may claim is `node`'s business.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{HandshakeInit, Packet, Tunn, TunnResult};
use x25519_dalek::{PublicKey, StaticSecret};

use super::keys::TunnelPublic;
use super::limiter::Proof;

/// The longest datagram read from the network; anything longer is dropped unread. The longest we
/// send is 1,280 bytes.
pub(crate) const MAX_DATAGRAM: usize = 2_048;

/// What sealing adds to an inner packet.
pub(crate) const OVERHEAD: usize = 32;

/// The shortest buffer boringtun formats a handshake into.
const SHORTEST_BUFFER: usize = 148;

/// Inner packets are a multiple of this long, so that lengths on the wire say less.
const PADDING: usize = 16;

/// Sessions a boringtun tunnel remembers, as a ring by index.
const RING: u32 = 8;

/// boringtun's limiter counts what claims any source, so a flood in a member's name would use up
/// the member's share. With a limit of none it asks everybody for a cookie, which tells who is
/// where it says; the counting is `limiter`'s.
const ALWAYS_ASK: u64 = 0;

/// The front door: tells what a datagram is, and keeps floods off the sessions.
pub(crate) struct Gate {
    cookies: RateLimiter,
    secret: StaticSecret,
    public: PublicKey,
    /// The same for the key before, which others may still encrypt to.
    previous: Option<Box<Self>>,
}

/// What the gate says about a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The beginning of a handshake by the holder of this key, as far as can be told so far.
    Initiation(TunnelPublic),
    /// An answer or data for one of our sessions, named by the upper 24 bits of the index.
    Session {
        /// Which session.
        index: u32,
        /// What it brings.
        kind: Kind,
    },
    /// Too many handshakes: this cookie goes back to the source, 64 bytes for 148, and nothing
    /// else happens.
    Cookie(Vec<u8>),
    /// Not for us; the reason is counted.
    Drop(&'static str),
}

/// What a datagram for a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to an initiation.
    Response,
    /// A cookie to put into the next initiation.
    Cookie,
    /// Sealed data.
    Data,
}

impl Gate {
    /// A gate for datagrams encrypted to `secret`.
    pub(crate) fn new(secret: &StaticSecret) -> Self {
        let public = PublicKey::from(secret);
        Self {
            cookies: RateLimiter::new(&public, ALWAYS_ASK),
            secret: secret.clone(),
            public,
            previous: None,
        }
    }

    /// Passes what is encrypted to `secret` as well.
    pub(crate) fn accept_too(&mut self, secret: &StaticSecret) {
        match &mut self.previous {
            Some(previous) => previous.accept_too(secret),
            None => self.previous = Some(Box::new(Self::new(secret))),
        }
    }

    /// Says what a datagram is. Costs one Diffie-Hellman for an initiation with a right `mac1` that
    /// `admit` affords; whoever doesn't know our key uses up nobody's share. One that isn't
    /// afforded and proves no source gets a cookie to prove it with. An answer to us is never asked
    /// for a cookie: it costs nothing unless it names a handshake of ours under way.
    pub(crate) fn inspect(
        &self,
        source: IpAddr,
        datagram: &[u8],
        admit: impl FnOnce(Proof) -> bool,
    ) -> Verdict {
        self.inspect_by(source, datagram, Box::new(admit))
    }

    fn inspect_by<'a>(
        &self,
        source: IpAddr,
        datagram: &[u8],
        admit: Box<dyn FnOnce(Proof) -> bool + 'a>,
    ) -> Verdict {
        if datagram.len() > MAX_DATAGRAM {
            return Verdict::Drop("oversize");
        }
        let mut buffer = [0; SHORTEST_BUFFER];
        let checked = self
            .cookies
            .verify_packet(Some(source), datagram, &mut buffer);
        let (packet, cookie) = match checked {
            Ok(packet) => (packet, None),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                match Tunn::parse_incoming_packet(datagram) {
                    Ok(packet) => (packet, Some(cookie)),
                    Err(_) => return Verdict::Drop("not wireguard"),
                }
            }
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => {
                return match &self.previous {
                    Some(previous) => previous.inspect_by(source, datagram, admit),
                    None => Verdict::Drop("mac1"),
                };
            }
            Err(_) => return Verdict::Drop("not wireguard"),
        };
        match packet {
            Packet::HandshakeInit(initiation) => {
                let proof = cookie.as_ref().map_or(Proof::Cookie, |_| Proof::None);
                match (admit(proof), cookie) {
                    (true, _) => self.identify(&initiation),
                    (false, Some(cookie)) => Verdict::Cookie(cookie.to_vec()),
                    (false, None) => Verdict::Drop("source limit"),
                }
            }
            Packet::HandshakeResponse(response) => Verdict::Session {
                index: response.receiver_idx >> 8,
                kind: Kind::Response,
            },
            Packet::PacketCookieReply(reply) => Verdict::Session {
                index: reply.receiver_idx >> 8,
                kind: Kind::Cookie,
            },
            Packet::PacketData(data) => Verdict::Session {
                index: data.receiver_idx >> 8,
                kind: Kind::Data,
            },
        }
    }

    fn identify(&self, initiation: &HandshakeInit<'_>) -> Verdict {
        match parse_handshake_anon(&self.secret, &self.public, initiation) {
            Ok(half) => Verdict::Initiation(TunnelPublic(half.peer_static_public)),
            Err(_) => Verdict::Drop("undecipherable initiation"),
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// The two keys a tunnel is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Our public key.
    pub(crate) ours: TunnelPublic,
    /// The other side's.
    pub(crate) theirs: TunnelPublic,
}

/// One peer's tunnel.
pub(crate) struct Session {
    tunn: Tunn,
    pair: Pair,
    index: u32,
    /// Receiver index of the newest session the other side has proved, `None` before the first
    /// and after its place in the ring was taken by an unproved one.
    proved: Option<u32>,
    /// Receiver index data last decrypted under: boringtun may seal with that session too, when
    /// it is as young as the newest.
    latest: Option<u32>,
    /// Receiver indices of sessions we answered that the other side has not proved, one for each
    /// place in the ring at most.
    answered: Vec<u32>,
}

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// An initiation was accepted; this answers it. Proves nothing about the source.
    Answer(Vec<u8>),
    /// Our initiation was answered: the session is up, and this datagram tells the other side.
    Established(Vec<u8>),
    /// An inner packet, decrypted.
    Inner {
        /// The packet with its padding removed.
        packet: Vec<u8>,
        /// Whether it is the first thing heard in its session.
        fresh: bool,
    },
    /// An empty packet, decrypted.
    Keepalive {
        /// Whether it is the first thing heard in its session.
        fresh: bool,
    },
    /// A cookie was stored for the next initiation.
    CookieStored,
    /// The session it names is gone here; the other side may not know.
    NoSession,
    /// A true initiation whose stamp is not newer than the last one's: a replay, or a peer whose
    /// clock went back.
    OldStamp,
    /// Not authentic, a duplicate, or out of place.
    Refused,
}

/// What the timers want sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Nothing.
    Idle,
    /// A handshake to renew or retry a session.
    Initiation(Vec<u8>),
    /// A sign of life the protocol owes.
    Keepalive(Vec<u8>),
}

impl Session {
    /// A tunnel from our key to `peer`, with a 24-bit index nobody else uses. The clock must read
    /// 1970 or later.
    pub(crate) fn new(secret: &StaticSecret, peer: TunnelPublic, index: u32) -> Self {
        // The gate has already counted each handshake; a second real limiter would count twice.
        let ours = PublicKey::from(secret);
        let unlimited = Arc::new(RateLimiter::new(&ours, u64::MAX));
        let mut tunn = Tunn::new(
            secret.clone(),
            PublicKey::from(peer.0),
            None,
            None,
            index,
            Some(unlimited),
        );
        tunn.update_timers(&mut [0; SHORTEST_BUFFER]);
        let pair = Pair {
            ours: TunnelPublic(ours.to_bytes()),
            theirs: peer,
        };
        Self {
            tunn,
            pair,
            index,
            proved: None,
            latest: None,
            answered: Vec::new(),
        }
    }

    /// The index datagrams for this tunnel carry.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The keys it is between.
    pub(crate) fn pair(&self) -> Pair {
        self.pair
    }

    /// Whether a datagram begins a handshake.
    pub(crate) fn is_initiation(datagram: &[u8]) -> bool {
        datagram.first() == Some(&1)
    }

    /// Whether a datagram names this tunnel, or none, as an initiation does.
    pub(crate) fn may_open(&self, datagram: &[u8]) -> bool {
        let kind = datagram.first().copied().unwrap_or(0);
        Self::is_initiation(datagram) || receiver_index(kind, datagram) >> 8 == self.index
    }

    /// Whether something sealed would be understood: a proved session exists and is not too old.
    pub(crate) fn is_live(&self) -> bool {
        self.proved.is_some() && self.tunn.time_since_last_handshake().is_some()
    }

    /// Begins a handshake, even if one is under way.
    pub(crate) fn initiate(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; SHORTEST_BUFFER];
        match self.tunn.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(initiation) => Some(initiation.to_vec()),
            _ => None,
        }
    }

    /// Encrypts an inner packet. `None` without a live session: the caller's queue decides.
    pub(crate) fn seal(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if !self.is_live() {
            return None;
        }
        let length = packet.len().next_multiple_of(PADDING);
        let mut buffer = vec![0; (length + OVERHEAD).max(SHORTEST_BUFFER)];
        let sealed = if length == packet.len() {
            self.tunn.encapsulate(packet, &mut buffer)
        } else {
            let mut padded = packet.to_vec();
            padded.resize(length, 0);
            self.tunn.encapsulate(&padded, &mut buffer)
        };
        let length = match sealed {
            TunnResult::WriteToNetwork(sealed) => sealed.len(),
            _ => return None,
        };
        buffer.truncate(length);
        Some(buffer)
    }

    /// Opens a datagram the gate has passed. `source` is for boringtun's cookies only.
    pub(crate) fn open(&mut self, source: IpAddr, datagram: &[u8]) -> Opened {
        // To boringtun an empty datagram asks for what it has queued.
        if datagram.is_empty() || datagram.len() > MAX_DATAGRAM {
            return Opened::Refused;
        }
        let mut buffer = [0; MAX_DATAGRAM];
        let receiver = datagram.first().map(|kind| receiver_index(*kind, datagram));
        match self.tunn.decapsulate(Some(source), datagram, &mut buffer) {
            TunnResult::WriteToNetwork(reply) if reply.first() == Some(&2) => {
                let answer = reply.to_vec();
                self.note_unproved(&answer);
                Opened::Answer(answer)
            }
            TunnResult::WriteToNetwork(reply) if reply.first() == Some(&4) => {
                let keepalive = reply.to_vec();
                self.note_established(receiver);
                Opened::Established(keepalive)
            }
            TunnResult::WriteToNetwork(_) => Opened::Refused,
            TunnResult::WriteToTunnelV6(packet, _) => {
                let packet = packet.to_vec();
                Opened::Inner {
                    packet,
                    fresh: self.note_proved(receiver),
                }
            }
            TunnResult::WriteToTunnelV4(..) => Opened::Refused,
            TunnResult::Done if datagram.first() == Some(&3) => Opened::CookieStored,
            TunnResult::Done => Opened::Keepalive {
                fresh: self.note_proved(receiver),
            },
            TunnResult::Err(WireGuardError::NoCurrentSession | WireGuardError::WrongIndex)
                if datagram.first() == Some(&4) =>
            {
                Opened::NoSession
            }
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => Opened::OldStamp,
            TunnResult::Err(_) => Opened::Refused,
        }
    }

    /// Runs the timers; due every 250 ms and right after waking from suspend.
    pub(crate) fn tick(&mut self) -> Tick {
        let mut buffer = [0; SHORTEST_BUFFER];
        match self.tunn.update_timers(&mut buffer) {
            TunnResult::WriteToNetwork(sent) if sent.first() == Some(&1) => {
                Tick::Initiation(sent.to_vec())
            }
            TunnResult::WriteToNetwork(sent) => Tick::Keepalive(sent.to_vec()),
            // It gave up and forgot every session; `initiate` wakes it again.
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.proved = None;
                self.answered.clear();
                Tick::Idle
            }
            _ => Tick::Idle,
        }
    }

    /// Our initiation was answered; the session takes its place in the ring.
    fn note_established(&mut self, receiver: Option<u32>) {
        self.proved = receiver;
        self.latest = receiver;
        let place = receiver.map(|index| index % RING);
        self.answered.retain(|index| Some(index % RING) != place);
    }

    /// Notes that data decrypted under this receiver index; true the first time in a session we
    /// answered. A straggler of an older session decrypts too and proves nothing new.
    fn note_proved(&mut self, receiver: Option<u32>) -> bool {
        self.latest = receiver;
        let unproved = self
            .answered
            .iter()
            .position(|index| Some(*index) == receiver);
        let Some(at) = unproved else {
            return false;
        };
        self.proved = Some(self.answered.swap_remove(at));
        true
    }

    /// An accepted initiation may take the ring place of the session in use, or of the one a
    /// straggler made boringtun use; then there is none.
    fn note_unproved(&mut self, answer: &[u8]) {
        let Some(taken) = answer.get(4..8).map(le_u32) else {
            return;
        };
        let in_use = [self.proved, self.latest].into_iter().flatten();
        if in_use
            .map(|index| index % RING)
            .any(|place| place == taken % RING)
        {
            self.proved = None;
        }
        self.answered.retain(|index| index % RING != taken % RING);
        self.answered.push(taken);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("index", &self.index)
            .field("proved", &self.proved)
            .finish_non_exhaustive()
    }
}

/// Our own index in a datagram: behind the sender's in a response, first elsewhere.
fn receiver_index(kind: u8, datagram: &[u8]) -> u32 {
    let at = if kind == 2 { 8 } else { 4 };
    datagram.get(at..at + 4).map_or(0, le_u32)
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}
