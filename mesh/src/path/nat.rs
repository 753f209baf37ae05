//! What the router in front of this node does with its address, told from where its peers see it.
//!
//! In: the address each peer answered to, the node's own ones, where it sent to and where members' datagrams came from. Out:
//! the addresses others see with those that see them, whether the router shows everybody the same one, and who came in from
//! where nothing was sent to. Invariants: what no peer has confirmed for `FRESH` says nothing, for routers forget; what an
//! earlier run may have opened counts for nothing. Bound: `MOST_SENT` hosts sent to are remembered, over it nobody that comes
//! tells anything. Absent: that somebody is kept out, which nobody can tell but by trying (`probe`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::snapshot::{Mapping, Reflexive};
use crate::trust::{Endpoint, EndpointKind};

/// How long what a peer saw counts; it says so anew with each measured round trip.
const FRESH: Duration = Duration::from_secs(180);

/// Hosts sent to that are remembered: several times what the largest view and its candidates come to.
const MOST_SENT: usize = 4_096;

/// How long a router may keep open what was opened before this run, or before the network changed: five minutes are what
/// RFC 4787 recommends.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Where peers see this node: one entry a peer.
#[derive(Debug)]
pub(crate) struct Seen {
    by: BTreeMap<NodeId, (SocketAddr, Instant)>,
    since: Instant,
    sent: BTreeSet<IpAddr>,
    let_in: Option<(NodeId, SocketAddr)>,
}

impl Seen {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            by: BTreeMap::new(),
            since: now,
            sent: BTreeSet::new(),
            let_in: None,
        }
    }

    /// A datagram leaves for this host.
    pub(crate) fn sends(&mut self, to: IpAddr) {
        if self.sent.len() < MOST_SENT && !super::is_near(to) {
            self.sent.insert(to);
        }
    }

    /// An authentic datagram of a peer came from there.
    pub(crate) fn came(&mut self, peer: NodeId, from: SocketAddr, now: Instant) {
        let tells = self.let_in.is_none() && self.sent.len() < MOST_SENT;
        let is_asked = super::is_near(from.ip()) || self.sent.contains(&from.ip());
        if tells && !is_asked && now >= self.since + FORGOTTEN {
            self.let_in = Some((peer, from));
        }
    }

    /// Who was let in from an address that nothing had been sent to.
    pub(crate) fn let_in(&self) -> Option<(NodeId, SocketAddr)> {
        self.let_in
    }

    /// A peer that hears us directly told where from.
    pub(crate) fn note(&mut self, by: NodeId, at: SocketAddr, now: Instant) {
        if super::is_usable(at) {
            self.by.insert(by, (super::plain(at), now));
        }
    }

    /// The machine's network changed: what was seen before says nothing.
    pub(crate) fn forget(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// That peer is no member any more.
    pub(crate) fn part(&mut self, by: NodeId) {
        self.by.remove(&by);
        self.let_in.take_if(|(peer, _)| *peer == by);
    }

    /// Each address with those that see it.
    pub(crate) fn reflexive(&self, now: Instant) -> Vec<Reflexive> {
        let mut all: BTreeMap<SocketAddr, Vec<NodeId>> = BTreeMap::new();
        for (by, (at, _)) in self.fresh(now) {
            all.entry(*at).or_default().push(*by);
        }
        all.into_iter()
            .map(|(addr, by)| Reflexive { addr, by })
            .collect()
    }

    /// What the router does, where these are the machine's own addresses.
    pub(crate) fn mapping(&self, own: &[SocketAddr], now: Instant) -> Mapping {
        let seen: Vec<SocketAddr> = self.fresh(now).map(|(_, (at, _))| *at).collect();
        mapping(own, &seen)
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = (&NodeId, &(SocketAddr, Instant))> {
        self.by.iter().filter(move |(_, (_, at))| now < *at + FRESH)
    }
}

/// What a router does that shows these addresses, one a peer, for a machine with those.
fn mapping(own: &[SocketAddr], seen: &[SocketAddr]) -> Mapping {
    let outside: Vec<_> = seen.iter().filter(|at| !own.contains(at)).collect();
    if seen.is_empty() {
        return Mapping::Unknown;
    }
    if outside.is_empty() {
        return Mapping::None;
    }
    let is_split = |at: &&SocketAddr| {
        outside
            .iter()
            .any(|other| other.ip() == at.ip() && other.port() != at.port())
    };
    if outside.iter().any(is_split) {
        return Mapping::EndpointDependent;
    }
    let is_confirmed = |at: &&SocketAddr| outside.iter().filter(|other| *other == at).count() > 1;
    match outside.iter().any(is_confirmed) {
        true => Mapping::EndpointIndependent,
        false => Mapping::Unknown,
    }
}

/// What a peer's router does, as far as the addresses tell that it publishes. Only the hard kind shows.
pub(crate) fn is_hard(published: &[Endpoint]) -> bool {
    let of_kind = |endpoint: &&Endpoint| endpoint.kind == EndpointKind::Observed;
    let seen: Vec<_> = published
        .iter()
        .filter(of_kind)
        .map(|endpoint| endpoint.addr)
        .collect();
    mapping(&[], &seen) == Mapping::EndpointDependent
}

/// Why no direct way was found: one sentence for a person.
pub(crate) fn why_not_direct(
    ours: Mapping,
    theirs_is_hard: bool,
    addresses: usize,
    peer: &str,
) -> String {
    let hard = "shows each of its peers another port";
    match (ours == Mapping::EndpointDependent, theirs_is_hard) {
        (true, true) => {
            "the routers on both sides show each peer another port: no direct way can be found; forward a UDP port on one side and name it with --endpoint there, or keep a member that both can reach".into()
        }
        (true, false) => format!(
            "the router here {hard}, and the one of {peer} lets nobody in it has not sent to: forward a UDP port here or there"
        ),
        (false, true) => format!(
            "the router of {peer} {hard}, and the one here lets nobody in it has not sent to: forward a UDP port here or there"
        ),
        (false, false) if addresses == 0 => format!("{peer} has published no address"),
        (false, false) => format!(
            "none of the {addresses} addresses {peer} may be at answers: a firewall between, or its router forgets; tried again each 12 s"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    #[test]
    fn the_mapping_takes_two_peers_that_see_the_same_outside_address() {
        let own = [at(1, 1)];
        for (seen, expected) in [
            (vec![], Mapping::Unknown),
            (vec![at(1, 1)], Mapping::None),
            (vec![at(1, 1), at(1, 1)], Mapping::None),
            (vec![at(9, 1)], Mapping::Unknown),
            (vec![at(1, 1), at(9, 1)], Mapping::Unknown),
            (vec![at(9, 1), at(9, 1)], Mapping::EndpointIndependent),
            (vec![at(9, 1), at(8, 1)], Mapping::Unknown),
            (vec![at(9, 1), at(9, 2)], Mapping::EndpointDependent),
            (
                vec![at(9, 1), at(9, 1), at(9, 2)],
                Mapping::EndpointDependent,
            ),
            (
                vec![at(1, 1), at(9, 1), at(9, 1)],
                Mapping::EndpointIndependent,
            ),
        ] {
            assert_eq!(mapping(&own, &seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn what_was_seen_long_ago_or_by_nobody_says_nothing() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let now = Instant::now();
        let (mut seen, one, two) = (Seen::new(now), NodeId([1; 32]), NodeId([2; 32]));
        seen.note(one, at(9, 1), now);
        seen.note(two, SocketAddr::from(([0_u16; 8], 0)), now);
        seen.note(two, at(9, 2), now + FRESH / 2);
        let both = now + FRESH / 2;
        assert_eq!(seen.mapping(&[], both), Mapping::EndpointDependent);
        assert_eq!(seen.mapping(&[], now + FRESH), Mapping::Unknown);
        let shown = Reflexive {
            addr: at(9, 2),
            by: vec![two],
        };
        assert_eq!(seen.reflexive(now + FRESH), [shown]);
        seen.part(two);
        assert_eq!(seen.reflexive(both).len(), 1);
        seen.forget(both);
        assert!(seen.reflexive(now).is_empty());
    }

    #[test]
    fn only_who_comes_from_where_nothing_was_sent_to_tells_that_anybody_is_let_in() {
        #[expect(clippy::disallowed_methods, reason = "a test begins somewhere")]
        let start = Instant::now();
        let (peer, later) = (NodeId([1; 32]), start + FORGOTTEN);
        let told = |sent: &[IpAddr], from: &str, now| {
            let mut seen = Seen::new(start);
            sent.iter().for_each(|to| seen.sends(*to));
            seen.came(peer, from.parse().unwrap(), now);
            seen.let_in().is_some()
        };
        let known = at(9, 0).ip();
        assert!(told(&[known], "192.0.2.8:4", later));
        assert!(!told(&[known], "192.0.2.9:4", later), "its port may differ");
        assert!(!told(&[], "10.0.0.1:4", later), "no router between");
        let early = start + FORGOTTEN / 2;
        assert!(
            !told(&[], "192.0.2.8:4", early),
            "an earlier run may have sent"
        );
        let hosts =
            (0..MOST_SENT as u32).map(|host| IpAddr::from((0x2d00_0000 + host).to_be_bytes()));
        assert!(!told(&hosts.collect::<Vec<_>>(), "192.0.2.8:4", later));

        let mut seen = Seen::new(start);
        seen.came(peer, at(8, 4), later);
        assert_eq!(seen.let_in(), Some((peer, at(8, 4))));
        seen.part(peer);
        assert_eq!(seen.let_in(), None);
    }

    #[test]
    fn each_reason_is_a_sentence_that_says_what_to_do_or_what_happens() {
        let observed = |port| Endpoint {
            kind: EndpointKind::Observed,
            addr: at(9, port),
        };
        assert!(is_hard(&[observed(1), observed(2)]));
        assert!(!is_hard(&[observed(1)]));
        let hard = Mapping::EndpointDependent;
        let both = why_not_direct(hard, true, 3, "attic");
        assert!(both.contains("both sides"), "{both}");
        for (ours, theirs) in [(hard, false), (Mapping::Unknown, true)] {
            let one = why_not_direct(ours, theirs, 3, "attic");
            assert!(
                one.contains("attic") && one.contains("forward a UDP port"),
                "{one}"
            );
        }
        let open = why_not_direct(Mapping::None, false, 3, "attic");
        assert!(open.starts_with("none of the 3 addresses attic"), "{open}");
        assert_eq!(
            why_not_direct(Mapping::None, false, 0, "attic"),
            "attic has published no address"
        );
    }
}
