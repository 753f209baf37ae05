//! What the machine says about itself, read once a second: `Collector::tick` makes one tick.
//!
//! One file a source. Each reads kernel text into one shared buffer, takes what it needs out of it
//! by a pure function and sets values on the `Sheet`, which numbers the series. Names and units are
//! node_exporter's where it has one; ours begin `outlast_`. Values are integers with a decimal
//! exponent. A source that fails leaves its values absent, never zero, is logged once, and says so by
//! `outlast_source_ok` and in `status`; what the machine lacks is absent. What is slow or may hang is measured aside, on a
//! thread of its own, and never delays the tick.
//! Absent: when to tick, and what time it is (`flow`).

mod conntrack;
mod containers;
mod cpu;
mod disk;
mod filesystem;
mod load;
mod machine;
mod memory;
mod network;
mod own;
mod power;
mod pressure;
mod processes;
mod protocols;
pub(crate) mod reach;
mod sensors;
mod sockets;
mod storage;
mod tunnel;
pub(crate) mod ups;
mod uptime;

mod aside;
mod board;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod kept;
mod scan;
mod sheet;
mod steady;

use std::path::Path;
use std::time::Instant;

use outlast_store::Series;

pub use board::Board;
use health::{Health, Round};
pub use health::{SourceState, Sources};
pub use power::Power;
pub use processes::Process;
use sheet::Sheet;
pub use sockets::Listener;
pub use tunnel::{TunnelPeer, TunnelStats};
pub use ups::Ups;

/// What one tick found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Series seen for the first time; their numbers follow those of all before. Mostly empty.
    pub appended: Vec<Series>,
    /// The value of every series so far, by number. `None` = not measured in this tick.
    pub values: Vec<Option<i64>>,
}

/// What the owner wants to be measured beside what the machine itself tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Where upsd listens, `HOST:PORT`. `None`: loopback is tried, and nobody misses it.
    pub ups: Option<String>,
    /// Hosts whose reachability is measured beside the router's, `HOST` or `HOST:PORT`; at most eight.
    pub reach: Vec<String>,
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
    protocols: protocols::Protocols,
    sockets: sockets::Sockets,
    conntrack: conntrack::Conntrack,
    pressure: pressure::Pressure,
    processes: processes::Processes,
    sensors: sensors::Sensors,
    power: power::Supplies,
    ups: ups::Upses,
    reach: reach::Reach,
    containers: containers::Containers,
    storage: storage::Storage,
    uptime: uptime::Uptime,
    tunnel: tunnel::Tunnel,
    own: own::Own,
    machine: machine::Machine,
    health: Health,
}

impl Collector {
    /// Reads below `root`: `/`, or a tree of recorded files.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self::with(root, &Wishes::default())
    }

    /// As `new`, and asks whom the owner named.
    #[must_use]
    pub fn with(root: &Path, wishes: &Wishes) -> Self {
        let of_this_machine = root == Path::new("/");
        Self {
            sheet: Sheet::new(Instant::now()),
            buffer: kept::Buffer::new(),
            cpu: cpu::Cpu::new(root),
            load: load::Load::new(root),
            memory: memory::Memory::new(root),
            disk: disk::Disk::new(root),
            filesystem: filesystem::Filesystem::new(root),
            network: network::Network::new(root),
            protocols: protocols::Protocols::new(root),
            sockets: sockets::Sockets::new(of_this_machine),
            conntrack: conntrack::Conntrack::new(root),
            pressure: pressure::Pressure::new(root),
            processes: processes::Processes::new(root),
            sensors: sensors::Sensors::new(root),
            power: power::Supplies::new(root),
            ups: ups::Upses::new(wishes.ups.clone(), of_this_machine),
            reach: reach::Reach::new(root, &wishes.reach, of_this_machine),
            containers: containers::Containers::new(root),
            storage: storage::Storage::new(root),
            uptime: uptime::Uptime::new(root),
            tunnel: tunnel::Tunnel::new(),
            own: own::Own::new(root),
            machine: machine::Machine::new(machine::Facts::of_this_machine()),
            health: Health::new(),
        }
    }

    /// How each source fared in the last tick; holds as long as anybody wants to know.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.health.sources()
    }

    /// The TCP sockets that listen, as of the last look at them.
    #[must_use]
    pub fn listeners(&self) -> Board<Vec<Listener>> {
        self.sockets.listeners()
    }

    /// The heaviest processes, as of the last look at all of them.
    #[must_use]
    pub fn processes(&self) -> Board<Vec<Process>> {
        self.processes.heaviest()
    }

    /// Mains and batteries, as of the last look at them; a loss of mains shows within 2 s.
    #[must_use]
    pub fn power(&self) -> Board<Power> {
        self.power.power()
    }

    /// Each UPS that upsd knows, as of the last time it was asked.
    #[must_use]
    pub fn ups(&self) -> Board<Vec<Ups>> {
        self.ups.shown()
    }

    /// Reads everything once. Takes well under a millisecond and never waits for a disk or a peer.
    pub fn tick(&mut self, tunnel: &TunnelStats) -> Tick {
        let now = Instant::now();
        self.sheet.begin(now);
        self.health.pending = 0;
        let mut round = Round {
            sheet: &mut self.sheet,
            buffer: &mut self.buffer,
            health: &mut self.health,
        };
        round.run("cpu", |sheet, buffer| self.cpu.tick(sheet, buffer));
        round.run("load", |sheet, buffer| {
            self.load.tick(sheet, buffer, self.cpu.stat());
        });
        round.run("memory", |sheet, buffer| self.memory.tick(sheet, buffer));
        round.run("disk", |sheet, buffer| self.disk.tick(sheet, buffer));
        round.run("filesystem", |sheet, buffer| {
            self.filesystem.tick(sheet, buffer, now);
        });
        round.run("network", |sheet, buffer| {
            self.network.tick(sheet, buffer, now);
        });
        round.run("protocols", |sheet, buffer| {
            self.protocols.tick(sheet, buffer);
        });
        round.run("sockets", |sheet, buffer| {
            self.sockets.tick(sheet, buffer, now);
        });
        round.run("conntrack", |sheet, buffer| {
            self.conntrack.tick(sheet, buffer);
        });
        round.run("pressure", |sheet, buffer| {
            self.pressure.tick(sheet, buffer);
        });
        round.run("processes", |sheet, buffer| {
            self.processes.tick(sheet, buffer, now);
        });
        round.run("sensors", |sheet, buffer| {
            self.sensors.tick(sheet, buffer, now);
        });
        round.run("power", |sheet, buffer| self.power.tick(sheet, buffer, now));
        round.run("ups", |sheet, buffer| self.ups.tick(sheet, buffer, now));
        round.run("reach", |sheet, buffer| self.reach.tick(sheet, buffer, now));
        round.run("containers", |sheet, buffer| {
            self.containers.tick(sheet, buffer, now);
        });
        round.run("storage", |sheet, buffer| {
            self.storage.tick(sheet, buffer, now);
        });
        round.run("uptime", |sheet, buffer| {
            self.uptime.tick(sheet, buffer, self.cpu.stat());
        });
        round.run("tunnel", |sheet, _| self.tunnel.tick(sheet, tunnel));
        round.run("own", |sheet, buffer| self.own.tick(sheet, buffer));
        round.run("machine", |sheet, _| self.machine.tick(sheet));
        round.finish(now);
        self.sheet.finish()
    }
}

#[cfg(test)]
impl Collector {
    /// Ticks until every source that measures aside has been heard of: the last tick, with all series.
    fn settle(&mut self) -> Tick {
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        let mut series = Vec::new();
        loop {
            let mut tick = self.tick(&TunnelStats::default());
            series.append(&mut tick.appended);
            if self.health.pending == 0 {
                tick.appended = series;
                return tick;
            }
            assert!(Instant::now() < deadline, "a source was silent for 20 s");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod kernels;
#[cfg(test)]
mod tests;
