//! What the machine says about itself, read once a second: `Collector::tick` makes one tick.
//!
//! One file a source. Each reads kernel text into one shared buffer, takes what it needs out of it
//! by a pure function and sets values on the `Sheet`, which numbers the series. Names and units are
//! node_exporter's where it has one; ours begin `outlast_`. Values are integers with a decimal
//! exponent. A source that fails leaves its values absent, never zero, and is logged once.
//! Absent: when to tick, and what time it is (`flow`).

mod cpu;
mod disk;
mod filesystem;
mod load;
mod machine;
mod memory;
mod network;
mod own;
mod tunnel;
mod uptime;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod kept;
mod scan;
mod sheet;

use std::path::Path;
use std::time::Instant;

use outlast_store::Series;

use sheet::{Family, Sheet, Spec};
pub use tunnel::{TunnelPeer, TunnelStats};

const OWN: [Spec; 2] = [
    Spec::gauge("outlast_collect_duration_seconds", "seconds", -6),
    Spec::gauge("outlast_series_refused", "", 0),
];

/// What one tick found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Series seen for the first time; their numbers follow those of all before. Mostly empty.
    pub appended: Vec<Series>,
    /// The value of every series so far, by number. `None` = not measured in this tick.
    pub values: Vec<Option<i64>>,
}

/// Reads the machine. Numbers of series are given once and hold for the collector's life.
#[derive(Debug)]
pub struct Collector {
    sheet: Sheet,
    buffer: kept::Buffer,
    cpu: cpu::Cpu,
    load: load::Load,
    memory: memory::Memory,
    disk: disk::Disk,
    filesystem: filesystem::Filesystem,
    network: network::Network,
    uptime: uptime::Uptime,
    tunnel: tunnel::Tunnel,
    own: own::Own,
    machine: machine::Machine,
    collect: Family<2>,
}

impl Collector {
    /// Reads below `root`: `/`, or a tree of recorded files.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            sheet: Sheet::new(Instant::now()),
            buffer: kept::Buffer::new(),
            cpu: cpu::Cpu::new(root),
            load: load::Load::new(root),
            memory: memory::Memory::new(root),
            disk: disk::Disk::new(root),
            filesystem: filesystem::Filesystem::new(root),
            network: network::Network::new(root),
            uptime: uptime::Uptime::new(root),
            tunnel: tunnel::Tunnel::new(),
            own: own::Own::new(root),
            machine: machine::Machine::new(machine::Facts::of_this_machine()),
            collect: Family::new(OWN),
        }
    }

    /// Reads everything once. Takes well under a millisecond and never waits for a disk or a peer.
    pub fn tick(&mut self, tunnel: &TunnelStats) -> Tick {
        let now = Instant::now();
        let (sheet, buffer) = (&mut self.sheet, &mut self.buffer);
        sheet.begin(now);
        self.cpu.tick(sheet, buffer);
        self.load.tick(sheet, buffer, self.cpu.stat());
        self.memory.tick(sheet, buffer);
        self.disk.tick(sheet, buffer);
        self.filesystem.tick(sheet, now);
        self.network.tick(sheet, buffer, now);
        self.uptime.tick(sheet, buffer, self.cpu.stat());
        self.tunnel.tick(sheet, tunnel);
        self.own.tick(sheet, buffer);
        self.machine.tick(sheet);
        if let Some([duration, refused]) = self.collect.only(sheet) {
            sheet.set(duration, now.elapsed().as_micros());
            sheet.set(refused, sheet.refused());
        }
        sheet.finish()
    }
}

#[cfg(test)]
mod kernels;
#[cfg(test)]
mod tests;
