//! Faults begin and end.
//!
//! Whatever keeps a machine down counts in `holds`; it starts when the last of them is over. A disk that a fault damaged
//! is no longer held to what it has acknowledged. Faults that name a machine that isn't there do nothing.

use std::time::Duration;

use outlast_store::{IntervalSet, LogId, SimDisk};
use rand::Rng as _;

use crate::case::{Flaw, Kind};
use crate::fault::What;
use crate::machine::Machine;
use crate::network::Weather;
use crate::site::site_of;
use crate::world::{Affair, World};

/// Half of what a flapping way is up, and down.
const FLAP: Duration = Duration::from_secs(3);
/// Between two machines of a storm that joins.
const JOINING: Duration = Duration::from_millis(40);

impl World {
    pub(crate) fn begin(&mut self, number: usize) {
        let what = self.case.story.0[number].what.clone();
        let known = |m: &u32| *m < self.count();
        if !what.machines().iter().all(known) {
            return;
        }
        self.tell(&format!("begins: {what}"));
        match what {
            What::Loss(percent) => self.weather(|weather| weather.loss_percent = percent),
            What::Slow(ms) => {
                self.weather(|weather| weather.slow = Duration::from_millis(ms.into()))
            }
            What::Jumble(ms) => {
                self.weather(|weather| weather.jumble = Duration::from_millis(ms.into()));
            }
            What::Twice(percent) => self.weather(|weather| weather.twice_percent = percent),
            What::Cut(group) => self.everywhere(|net| net.wall(number, &group, false)),
            What::Deaf(group) => self.everywhere(|net| net.wall(number, &group, true)),
            What::Flap(group) => self.flap(number, &group),
            What::Crash(m) => self.down(m, false),
            What::Power(m) => self.down(m, true),
            What::SitePower(group) => group.iter().for_each(|m| self.down(*m, true)),
            What::Full(m) => {
                let disk = &self.machine(m).disk;
                disk.set_capacity(disk.used_bytes());
            }
            What::Fill(m, percent) => {
                let disk = &self.machine(m).disk;
                let taken = self.case.disk_bytes() * u64::from(100 - percent) / 100;
                disk.set_others(taken.saturating_sub(disk.used_bytes()));
            }
            What::Stall(m) => {
                self.machine(m).disk.stall(true);
                self.machine_mut(m).stalled = true;
            }
            What::Rot(m, bits) => {
                self.down(m, false);
                let machine = &mut self.sites[site_of(m)].machines[m as usize];
                for _ in 0..bits {
                    machine.disk.rot(&mut self.rng);
                }
                machine.excused = true;
            }
            What::Clock(m, secs) => self.step_clock(m, secs),
            What::Freeze(m) => self.freeze(m),
            What::Join(count) => self.join(count),
            What::Clone(m) => self.copy(number, m),
            What::Wipe(m) => self.down(m, false),
            What::Yesterday(m) => {
                let image = self.machine(m).disk.image();
                self.images.insert(number, image);
            }
            What::Skew(m) => {
                self.machine_mut(m).old = true;
                let sites = u32::from(self.case.kind == Kind::Sites);
                self.everywhere(|network| network.outdated += sites);
            }
        }
        self.look_at_the_weather();
    }

    fn weather(&mut self, change: impl Fn(&mut Weather)) {
        self.everywhere(|network| change(&mut network.weather));
    }

    fn look_at_the_weather(&mut self) {
        let now = self.now;
        self.everywhere(|network| network.look_at_the_weather(now));
    }

    pub(crate) fn end(&mut self, number: usize) {
        let what = self.case.story.0[number].what.clone();
        let known = |m: &u32| *m < self.count();
        if !what.machines().iter().all(known) {
            return;
        }
        self.tell(&format!("ends: {what}"));
        match what {
            What::Loss(_) => self.weather(|weather| weather.loss_percent = 0),
            What::Slow(_) => self.weather(|weather| weather.slow = Duration::ZERO),
            What::Jumble(_) => self.weather(|weather| weather.jumble = Duration::ZERO),
            What::Twice(_) => self.weather(|weather| weather.twice_percent = 0),
            What::Cut(_) | What::Deaf(_) | What::Flap(_) => {
                let now = self.now;
                self.everywhere(|net| net.unwall(now, number));
            }
            What::Crash(m) | What::Power(m) | What::Rot(m, _) => self.release(m),
            What::SitePower(group) => group.iter().for_each(|m| self.release(*m)),
            What::Full(m) => {
                let bytes = self.case.disk_bytes();
                self.machine(m).disk.set_capacity(bytes);
            }
            What::Fill(m, _) => self.machine(m).disk.set_others(0),
            What::Stall(m) => {
                self.machine(m).disk.stall(false);
                self.machine_mut(m).stalled = false;
                self.sites[site_of(m)].catch_up(m);
            }
            What::Clock(m, secs) => self.step_clock(m, -secs),
            What::Freeze(m) => self.thaw(m),
            What::Join(_) => {}
            What::Clone(_) => {
                if let Some(copy) = self.made.remove(&number) {
                    self.sites[site_of(copy)].stop(copy);
                    self.machine_mut(copy).gone = true;
                    if self.case.flaw != Some(Flaw::Unmourned) {
                        self.lose_everything(copy);
                    }
                }
            }
            What::Wipe(m) => {
                let mean = self.case.flaw == Some(Flaw::MeanDisk);
                let room = if mean { 0 } else { self.case.disk_bytes() };
                let empty = SimDisk::new(room);
                let machine = self.machine_mut(m);
                machine.disk = empty;
                machine.stalled = false;
                machine.durable.clear();
                self.release(m);
            }
            What::Yesterday(m) => {
                self.down(m, false);
                if let Some(image) = self.images.remove(&number) {
                    let disk = self.healthy(image);
                    let machine = self.machine_mut(m);
                    machine.disk = disk;
                    machine.stalled = false;
                    machine.durable.clear();
                }
                self.release(m);
            }
            What::Skew(m) => {
                self.machine_mut(m).old = false;
                let sites = u32::from(self.case.kind == Kind::Sites);
                self.everywhere(|network| network.outdated -= sites);
                self.speak_of_the_future(m);
            }
        }
        self.look_at_the_weather();
    }

    /// Walls that come and go until the fault ends.
    fn flap(&mut self, number: usize, group: &[u32]) {
        let now = self.now;
        self.everywhere(|network| {
            network.wall(number, group, false);
            network.flap(number, now, FLAP);
        });
    }

    fn down(&mut self, m: u32, power: bool) {
        let site = &mut self.sites[site_of(m)];
        site.stop(m);
        let lying = self.case.flaw == Some(Flaw::LyingDisk);
        let now = self.now;
        let machine = &mut site.machines[m as usize];
        machine.holds += 1;
        if power {
            machine.disk.power_cut(&mut self.rng);
            machine.powered = now;
            machine.wall_off_ms = 0;
            machine.stalled = false;
            if lying {
                machine.disk = SimDisk::new(self.case.disk_bytes());
            }
        }
    }

    fn release(&mut self, m: u32) {
        let machine = self.machine_mut(m);
        machine.holds = machine.holds.saturating_sub(1);
        if machine.holds == 0 && !machine.gone {
            self.enter(self.now, Affair::Start(m));
        }
    }

    fn step_clock(&mut self, m: u32, secs: i64) {
        let before = self.running(m);
        let flawed = self.case.flaw == Some(Flaw::EpochPerStep);
        let machine = self.machine_mut(m);
        machine.wall_off_ms += secs * 1_000;
        if let Some(up) = machine.up.as_mut().filter(|_| flawed) {
            up.log = up.store.begin_epoch().unwrap_or(up.log);
        }
        if self.running(m) != before {
            self.breaks("clock steps change no identity", format!("machine {m}"));
        }
    }

    fn freeze(&mut self, m: u32) {
        let machine = self.machine_mut(m);
        machine.frozen = machine.up.is_some();
    }

    /// The process goes on, with what is left in its socket; the sampler's lost seconds stay lost.
    fn thaw(&mut self, m: u32) {
        let now = self.now;
        let machine = self.machine_mut(m);
        if !std::mem::take(&mut machine.frozen) {
            return;
        }
        machine.thawed = now;
        for event in std::mem::take(&mut machine.unread) {
            self.sites[site_of(m)].enter(now, m, event);
        }
    }

    /// Machines join through one member each; the news spreads from there.
    fn join(&mut self, count: u32) {
        for number in 0..count {
            let Some(through) = self.somebody_up() else {
                return;
            };
            let who = self.new_identity();
            let mut roster = (*self.machine(through).roster).clone();
            roster.insert(who);
            let roster = std::sync::Arc::new(roster);
            let disk = SimDisk::new(self.case.disk_bytes());
            let m = self.add_machine(Machine::new(
                who,
                disk,
                std::sync::Arc::clone(&roster),
                self.now,
            ));
            self.meet();
            self.sites[site_of(through)].learn(through, &roster);
            self.enter(self.now + JOINING * number, Affair::Start(m));
        }
    }

    fn somebody_up(&mut self) -> Option<u32> {
        let up: Vec<u32> = (0..self.count())
            .filter(|m| {
                let machine = self.machine(*m);
                machine.up.is_some() && !machine.frozen && machine.who == *m
            })
            .collect();
        (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())])
    }

    /// The same keys and the same disk on a second machine.
    fn copy(&mut self, number: usize, m: u32) {
        let original = self.machine(m);
        let disk = self.healthy(original.disk.image());
        let copy = Machine::new(original.who, disk, original.roster.clone(), self.now);
        let copy = self.add_machine(copy);
        self.made.insert(number, copy);
        self.enter(self.now, Affair::Start(copy));
    }

    /// What is on the disk, without what was wrong with it.
    fn healthy(&self, disk: SimDisk) -> SimDisk {
        disk.stall(false);
        disk.set_capacity(self.case.disk_bytes());
        disk.set_others(0);
        disk
    }

    /// A disk that nobody will ever read again.
    fn lose_everything(&mut self, m: u32) {
        let lost: Vec<(LogId, IntervalSet)> = std::mem::take(&mut self.machine_mut(m).before)
            .into_iter()
            .collect();
        for (log, rows) in lost {
            self.excuse_unless_held(&log, rows);
        }
    }

    /// A later release says things nobody here knows.
    fn speak_of_the_future(&mut self, m: u32) {
        let peers: Vec<u32> = self.machine(m).sessions.up.keys().copied().collect();
        for peer in peers {
            for kind in [99, 200, 255] {
                let body: Vec<u8> = (0..self.rng.random_range(0..900))
                    .map(|_| self.rng.random())
                    .collect();
                self.sites[site_of(m)].send(m, peer, kind, body.into());
            }
        }
    }
}
