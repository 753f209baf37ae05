//! What IP, TCP, UDP and ICMP have counted, and what the kernel's receive queues dropped: the evidence of floods, of
//! programs that accept too slowly and of lossy ways.
//!
//! Reads `/proc/net/snmp`, `netstat`, `snmp6`, `softnet_stat`, `sockstat` and `sockstat6`. A table of two lines, titles and
//! numbers, is laid out once and again only when its titles change: they are three quarters of the text.
//! Absent: which sockets they were (`sockets`).

use std::path::Path;

use super::kept::{Buffer, Kept};
use super::scan::{hex, lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// Which counters of `/proc/net/snmp` and `/proc/net/netstat` are kept, as `PROTOCOL_NAME`.
const TABLES: [Spec; 49] = [
    count("node_netstat_Ip_InReceives"),
    count("node_netstat_Ip_InHdrErrors"),
    count("node_netstat_Ip_ForwDatagrams"),
    count("node_netstat_Ip_InDiscards"),
    count("node_netstat_Ip_OutRequests"),
    count("node_netstat_Ip_OutDiscards"),
    count("node_netstat_Ip_OutNoRoutes"),
    count("node_netstat_Ip_ReasmFails"),
    count("node_netstat_Icmp_InMsgs"),
    count("node_netstat_Icmp_InErrors"),
    count("node_netstat_Icmp_OutMsgs"),
    count("node_netstat_Tcp_ActiveOpens"),
    count("node_netstat_Tcp_PassiveOpens"),
    count("node_netstat_Tcp_AttemptFails"),
    count("node_netstat_Tcp_EstabResets"),
    Spec::gauge("node_netstat_Tcp_CurrEstab", "", 0),
    count("node_netstat_Tcp_InSegs"),
    count("node_netstat_Tcp_OutSegs"),
    count("node_netstat_Tcp_RetransSegs"),
    count("node_netstat_Tcp_InErrs"),
    count("node_netstat_Tcp_OutRsts"),
    count("node_netstat_Udp_InDatagrams"),
    count("node_netstat_Udp_NoPorts"),
    count("node_netstat_Udp_InErrors"),
    count("node_netstat_Udp_OutDatagrams"),
    count("node_netstat_Udp_RcvbufErrors"),
    count("node_netstat_Udp_SndbufErrors"),
    count("node_netstat_TcpExt_SyncookiesSent"),
    count("node_netstat_TcpExt_SyncookiesRecv"),
    count("node_netstat_TcpExt_SyncookiesFailed"),
    count("node_netstat_TcpExt_EmbryonicRsts"),
    count("node_netstat_TcpExt_PruneCalled"),
    count("node_netstat_TcpExt_ListenOverflows"),
    count("node_netstat_TcpExt_ListenDrops"),
    count("node_netstat_TcpExt_TCPTimeouts"),
    count("node_netstat_TcpExt_TCPBacklogDrop"),
    count("node_netstat_TcpExt_TCPAbortOnMemory"),
    count("node_netstat_TcpExt_TCPAbortOnTimeout"),
    count("node_netstat_TcpExt_TCPMemoryPressures"),
    count("node_netstat_TcpExt_TCPReqQFullDoCookies"),
    count("node_netstat_TcpExt_TCPReqQFullDrop"),
    count("node_netstat_TcpExt_TCPSynRetrans"),
    count("node_netstat_TcpExt_TCPOFOQueue"),
    count("node_netstat_TcpExt_TCPRcvQDrop"),
    count("node_netstat_TcpExt_TCPChallengeACK"),
    octets("node_netstat_IpExt_InOctets"),
    octets("node_netstat_IpExt_OutOctets"),
    count("node_netstat_IpExt_InMcastPkts"),
    count("node_netstat_IpExt_InBcastPkts"),
];

/// Which lines of `/proc/net/snmp6` are kept, as `PROTOCOL_NAME`.
const SIX: [Spec; 16] = [
    count("node_netstat_Ip6_InReceives"),
    count("node_netstat_Ip6_InHdrErrors"),
    count("node_netstat_Ip6_InNoRoutes"),
    count("node_netstat_Ip6_InDiscards"),
    count("node_netstat_Ip6_OutRequests"),
    count("node_netstat_Ip6_OutNoRoutes"),
    octets("node_netstat_Ip6_InOctets"),
    octets("node_netstat_Ip6_OutOctets"),
    count("node_netstat_Icmp6_InMsgs"),
    count("node_netstat_Icmp6_InErrors"),
    count("node_netstat_Icmp6_OutMsgs"),
    count("node_netstat_Udp6_InDatagrams"),
    count("node_netstat_Udp6_NoPorts"),
    count("node_netstat_Udp6_InErrors"),
    count("node_netstat_Udp6_OutDatagrams"),
    count("node_netstat_Udp6_RcvbufErrors"),
];

/// Which numbers of `/proc/net/sockstat` and `sockstat6` are kept, as `PROTOCOL_key`.
const IN_USE: [Spec; 9] = [
    Spec::gauge("node_sockstat_sockets_used", "", 0),
    Spec::gauge("node_sockstat_TCP_inuse", "", 0),
    Spec::gauge("node_sockstat_TCP_orphan", "", 0),
    Spec::gauge("node_sockstat_TCP_tw", "", 0),
    Spec::gauge("node_sockstat_TCP_alloc", "", 0),
    Spec::gauge("node_sockstat_UDP_inuse", "", 0),
    Spec::gauge("node_sockstat_FRAG_inuse", "", 0),
    Spec::gauge("node_sockstat_TCP6_inuse", "", 0),
    Spec::gauge("node_sockstat_UDP6_inuse", "", 0),
];

/// Sums over all cores.
const SOFTNET: [Spec; 3] = [
    count("node_softnet_processed_total"),
    count("node_softnet_dropped_total"),
    count("node_softnet_times_squeezed_total"),
];

const fn count(name: &'static str) -> Spec {
    Spec::counter(name, "", 0)
}

const fn octets(name: &'static str) -> Spec {
    Spec::counter(name, "bytes", 0)
}

#[derive(Debug)]
pub(super) struct Protocols {
    tables: [(Kept, Layout); 2],
    six: Kept,
    in_use: [Kept; 2],
    softnet: Kept,
    tables_family: Family<49>,
    six_family: Family<16>,
    in_use_family: Family<9>,
    softnet_family: Family<3>,
}

impl Protocols {
    pub(super) fn new(root: &Path) -> Self {
        let table = |path| (Kept::optional(root, path), Layout::default());
        Self {
            tables: ["proc/net/snmp", "proc/net/netstat"].map(table),
            six: Kept::optional(root, "proc/net/snmp6"),
            in_use: ["proc/net/sockstat", "proc/net/sockstat6"]
                .map(|path| Kept::optional(root, path)),
            softnet: Kept::optional(root, "proc/net/softnet_stat"),
            tables_family: Family::new(TABLES),
            six_family: Family::new(SIX),
            in_use_family: Family::new(IN_USE),
            softnet_family: Family::new(SOFTNET),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer) {
        let mut values = [None; TABLES.len()];
        for (file, layout) in &mut self.tables {
            layout.read(file.read(buffer).unwrap_or_default(), &mut values);
        }
        self.tables_family.put(sheet, values);
        let six = parse_six(self.six.read(buffer).unwrap_or_default());
        self.six_family.put(sheet, six);
        let mut values = [None; IN_USE.len()];
        for file in &mut self.in_use {
            parse_in_use(file.read(buffer).unwrap_or_default(), &mut values);
        }
        self.in_use_family.put(sheet, values);
        let softnet = parse_softnet(self.softnet.read(buffer).unwrap_or_default());
        self.softnet_family.put(sheet, softnet);
    }
}

/// Where the wanted numbers of a file of tables stand.
#[derive(Debug, Default)]
pub(super) struct Layout {
    tables: Vec<Table>,
}

/// Two lines: titles, and numbers under them.
#[derive(Debug)]
struct Table {
    titles: Vec<u8>,
    /// Column of each wanted number, and its place in `TABLES`; by column.
    wanted: Vec<(usize, usize)>,
}

/// More tables than any kernel writes: those beyond are left out.
const MAX_TABLES: usize = 16;

impl Layout {
    /// Puts what a text says at its places.
    pub(super) fn read(&mut self, text: &[u8], values: &mut [Option<u64>; TABLES.len()]) {
        let mut all = lines(text).filter(|line| !line.is_empty());
        let mut at = 0;
        while let (Some(titles), Some(numbers)) = (all.next(), all.next()) {
            if at == MAX_TABLES {
                return;
            }
            if self
                .tables
                .get(at)
                .is_none_or(|table| table.titles != titles)
            {
                self.tables.truncate(at);
                self.tables.push(Table::of(titles));
            }
            self.tables[at].read(numbers, values);
            at += 1;
        }
    }
}

impl Table {
    fn of(titles: &[u8]) -> Self {
        let mut columns = words(titles);
        let protocol = columns.next().and_then(|word| word.strip_suffix(b":"));
        let place = |name| {
            let protocol = protocol?;
            let of = |spec: &Spec| is_called(spec.name(), "node_netstat_", protocol, b"_", name);
            TABLES.iter().position(of)
        };
        let wanted = columns.enumerate();
        let wanted = wanted.filter_map(|(column, name)| Some((column, place(name)?)));
        Self {
            wanted: wanted.collect(),
            titles: titles.to_vec(),
        }
    }

    fn read(&self, numbers: &[u8], values: &mut [Option<u64>; TABLES.len()]) {
        let mut columns = words(numbers);
        let same = columns.next() == words(&self.titles).next();
        let mut passed = 0;
        for (column, place) in self.wanted.iter().filter(|_| same) {
            values[*place] = columns.nth(column - passed).and_then(number);
            passed = column + 1;
        }
    }
}

/// Whether a series is called `prefix`, protocol, `between` and name.
fn is_called(series: &str, prefix: &str, protocol: &[u8], between: &[u8], name: &[u8]) -> bool {
    let rest = series
        .strip_prefix(prefix)
        .and_then(|rest| rest.as_bytes().strip_prefix(protocol))
        .and_then(|rest| rest.strip_prefix(between));
    rest == Some(name)
}

/// In the order of `SIX`: the kernel writes `Ip6InReceives` for `Ip6_InReceives`.
pub(super) fn parse_six(text: &[u8]) -> [Option<u64>; SIX.len()] {
    let mut values = [None; SIX.len()];
    let mut next = 0;
    for line in lines(text) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        let is = |spec: &Spec| {
            let name = spec.name().as_bytes();
            let name = &name["node_netstat_".len()..];
            let six = name.iter().position(|byte| *byte == b'_').unwrap_or(0);
            key.strip_prefix(&name[..six]) == name.get(six + 1..)
        };
        // The kernel's order is that of `SIX`, mostly.
        let at = if SIX.get(next).is_some_and(is) {
            Some(next)
        } else {
            SIX.iter().position(is)
        };
        if let Some(at) = at {
            values[at] = words.next().and_then(number);
            next = at + 1;
        }
    }
    values
}

/// Puts what a text says at its places in `IN_USE`.
pub(super) fn parse_in_use(text: &[u8], values: &mut [Option<u64>; IN_USE.len()]) {
    for line in lines(text) {
        let mut words = words(line);
        let Some(protocol) = words.next().and_then(|word| word.strip_suffix(b":")) else {
            continue;
        };
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            let is = |spec: &Spec| is_called(spec.name(), "node_sockstat_", protocol, b"_", key);
            if let Some(at) = IN_USE.iter().position(is) {
                values[at] = number(value);
            }
        }
    }
}

/// Packets processed, packets dropped for a full queue, and how often the time for them ran out, of all cores.
pub(super) fn parse_softnet(text: &[u8]) -> [Option<u64>; 3] {
    let mut sums = [None; 3];
    for line in lines(text) {
        for (sum, word) in sums.iter_mut().zip(words(line)) {
            if let Some(value) = hex(word) {
                *sum = sum.unwrap_or(0_u64).checked_add(value);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recorded_tables_are_read() {
        let mut values = [None; TABLES.len()];
        let (mut snmp, mut netstat) = (Layout::default(), Layout::default());
        snmp.read(
            include_bytes!("../../fixtures/here/proc/net/snmp"),
            &mut values,
        );
        netstat.read(
            include_bytes!("../../fixtures/here/proc/net/netstat"),
            &mut values,
        );
        let value = |name: &str| {
            let at = TABLES
                .iter()
                .position(|spec| spec.name() == format!("node_netstat_{name}"));
            values[at.unwrap()]
        };
        assert_eq!(value("Tcp_PassiveOpens"), Some(13_765));
        assert_eq!(value("Tcp_OutRsts"), Some(4_444));
        assert_eq!(value("Udp_NoPorts"), Some(8_883));
        assert_eq!(value("TcpExt_SyncookiesSent"), Some(0));
        assert_eq!(value("TcpExt_TCPOFOQueue"), Some(36));
        assert_eq!(value("IpExt_InOctets"), Some(13_987_420_088));
        assert!(values.iter().all(Option::is_some), "{values:?}");
    }

    #[test]
    fn other_titles_under_the_same_layout_are_laid_out_anew() {
        let mut layout = Layout::default();
        let mut resets = |text: &str| {
            let mut values = [None; TABLES.len()];
            layout.read(text.as_bytes(), &mut values);
            values[20]
        };
        assert_eq!(resets("Tcp: InErrs OutRsts\nTcp: 1 2\n"), Some(2));
        assert_eq!(resets("Tcp: OutRsts MaxConn\nTcp: 3 -1\n"), Some(3));
        assert_eq!(resets("Tcp: OutRsts\nTcp: -1\n"), None);
        assert_eq!(resets("Tcp: OutRsts\nUdp: 5\n"), None);
        assert_eq!(
            resets("Udp: NoPorts\nUdp: 7\nTcp: OutRsts\nTcp: 8\n"),
            Some(8)
        );
        assert_eq!(resets("Tcp: OutRsts\n"), None);
    }

    #[test]
    fn every_second_protocol_and_the_sockets_in_use_are_read() {
        let six = parse_six(include_bytes!("../../fixtures/here/proc/net/snmp6"));
        assert_eq!(six[0], Some(3_683));
        assert_eq!(six[4], Some(3_818));
        assert!(six.iter().all(Option::is_some), "{six:?}");
        let unordered = parse_six(b"Udp6NoPorts 4\nIp6InReceives 3\nIp6InReceivesX 9\n");
        assert_eq!((unordered[12], unordered[0]), (Some(4), Some(3)));
        let mut values = [None; IN_USE.len()];
        parse_in_use(
            b"sockets: used 47\nTCP: inuse 16 orphan 0 tw 3 alloc 17 mem 155\nUDP: inuse 5 mem\n",
            &mut values,
        );
        assert_eq!(values[..6], [47, 16, 0, 3, 17, 5].map(Some));
        parse_in_use(b"TCP6: inuse 2\nUDP6: inuse 8\n", &mut values);
        assert_eq!(values[6..], [None, Some(2), Some(8)]);
    }

    #[test]
    fn queues_of_all_cores_are_summed() {
        let found = parse_softnet(
            b"0000000f 00000001 00000002 00000000\n000000f0 00000000 00000009 00000000\n",
        );
        assert_eq!(found, [Some(255), Some(1), Some(11)]);
        assert_eq!(parse_softnet(b"zz 1\n"), [None, Some(1), None]);
        assert_eq!(parse_softnet(b""), [None; 3]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>, again: Vec<u8>) {
            let mut layout = Layout::default();
            let mut values = [None; TABLES.len()];
            layout.read(&text, &mut values);
            layout.read(&again, &mut values);
            parse_six(&text);
            parse_in_use(&text, &mut [None; IN_USE.len()]);
            parse_softnet(&text);
        }

        #[test]
        fn any_words_are_taken(text in "((Tcp:|TcpExt:|OutRsts|ListenDrops|Udp6NoPorts|sockets:| |\n|[0-9a-f]{1,9}){0,12}\n){0,5}") {
            let mut layout = Layout::default();
            let mut values = [None; TABLES.len()];
            layout.read(text.as_bytes(), &mut values);
            layout.read(text.as_bytes(), &mut values);
            parse_six(text.as_bytes());
            parse_softnet(text.as_bytes());
            parse_in_use(text.as_bytes(), &mut [None; IN_USE.len()]);
        }
    }
}
