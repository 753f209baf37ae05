//! Faults begin and end.
//!
//! Whatever keeps a machine down counts in `holds`; it starts when the last of them is over. A disk that a fault damaged
//! is no longer held to what it has acknowledged. Faults that name a machine that isn't there do nothing.

use std::time::Duration;

use outlast_store::{IntervalSet, LogId, SimDisk};
use rand::Rng as _;

use crate::case::Flaw;
use crate::fault::What;
use crate::machine::Machine;
use crate::world::{Event, World};

/// Half of what a flapping way is up, and down.
const FLAP: Duration = Duration::from_secs(3);
/// Between two machines of a storm that joins.
const JOINING: Duration = Duration::from_millis(40);

impl World {
    pub(crate) fn begin(&mut self, number: usize) {
        let what = self.case.story.0[number].what.clone();
        let known = |m: &u32| (*m as usize) < self.machines.len();
        if !what.machines().iter().all(known) {
            return;
        }
        self.tell(&format!("begins: {what}"));
        match what {
            What::Loss(percent) => self.network.weather.loss_percent = percent,
            What::Slow(ms) => self.network.weather.slow = Duration::from_millis(ms.into()),
            What::Jumble(ms) => self.network.weather.jumble = Duration::from_millis(ms.into()),
            What::Twice(percent) => self.network.weather.twice_percent = percent,
            What::Cut(group) => self.network.wall(number, &group, false),
            What::Deaf(group) => self.network.wall(number, &group, true),
            What::Flap(group) => self.flap(number, &group),
            What::Crash(m) => self.down(m, false),
            What::Power(m) => self.down(m, true),
            What::SitePower(group) => group.iter().for_each(|m| self.down(*m, true)),
            What::Full(m) => {
                let disk = &self.machines[m as usize].disk;
                disk.set_capacity(disk.used_bytes());
            }
            What::Fill(m, percent) => {
                let disk = &self.machines[m as usize].disk;
                let taken = self.case.disk_bytes() * u64::from(100 - percent) / 100;
                disk.set_others(taken.saturating_sub(disk.used_bytes()));
            }
            What::Stall(m) => {
                self.machines[m as usize].disk.stall(true);
                self.machines[m as usize].stalled = true;
            }
            What::Rot(m, bits) => {
                self.down(m, false);
                for _ in 0..bits {
                    self.machines[m as usize].disk.rot(&mut self.rng);
                }
                self.machines[m as usize].excused = true;
            }
            What::Clock(m, secs) => self.step_clock(m, secs),
            What::Freeze(m) => self.freeze(m),
            What::Join(count) => self.join(count),
            What::Clone(m) => self.copy(number, m),
            What::Wipe(m) => self.down(m, false),
            What::Yesterday(m) => {
                let image = self.machines[m as usize].disk.image();
                self.images.insert(number, image);
            }
            What::Skew(m) => self.machines[m as usize].old = true,
        }
        self.look_at_the_weather();
    }

    fn look_at_the_weather(&mut self) {
        let fair = self.network.is_fair();
        self.network.note_weather(self.now, fair);
        self.watch
            .note_loss(self.now, self.network.weather.loss_percent);
    }

    pub(crate) fn end(&mut self, number: usize) {
        let what = self.case.story.0[number].what.clone();
        let known = |m: &u32| (*m as usize) < self.machines.len();
        if !what.machines().iter().all(known) {
            return;
        }
        self.tell(&format!("ends: {what}"));
        match what {
            What::Loss(_) => self.network.weather.loss_percent = 0,
            What::Slow(_) => self.network.weather.slow = Duration::ZERO,
            What::Jumble(_) => self.network.weather.jumble = Duration::ZERO,
            What::Twice(_) => self.network.weather.twice_percent = 0,
            What::Cut(_) | What::Deaf(_) | What::Flap(_) => self.network.unwall(self.now, number),
            What::Crash(m) | What::Power(m) | What::Rot(m, _) => self.release(m),
            What::SitePower(group) => group.iter().for_each(|m| self.release(*m)),
            What::Full(m) => {
                let bytes = self.case.disk_bytes();
                self.machines[m as usize].disk.set_capacity(bytes);
            }
            What::Fill(m, _) => self.machines[m as usize].disk.set_others(0),
            What::Stall(m) => {
                self.machines[m as usize].disk.stall(false);
                self.machines[m as usize].stalled = false;
                self.catch_up(m);
            }
            What::Clock(m, secs) => self.step_clock(m, -secs),
            What::Freeze(m) => self.thaw(m),
            What::Join(_) => {}
            What::Clone(_) => {
                if let Some(copy) = self.made.remove(&number) {
                    self.stop(copy);
                    self.machines[copy as usize].gone = true;
                    if self.case.flaw != Some(Flaw::Unmourned) {
                        self.lose_everything(copy);
                    }
                }
            }
            What::Wipe(m) => {
                let mean = self.case.flaw == Some(Flaw::MeanDisk);
                let room = if mean { 0 } else { self.case.disk_bytes() };
                let empty = SimDisk::new(room);
                self.machines[m as usize].disk = empty;
                self.machines[m as usize].stalled = false;
                self.machines[m as usize].durable.clear();
                self.release(m);
            }
            What::Yesterday(m) => {
                self.down(m, false);
                if let Some(image) = self.images.remove(&number) {
                    self.machines[m as usize].disk = self.healthy(image);
                    self.machines[m as usize].stalled = false;
                    self.machines[m as usize].durable.clear();
                }
                self.release(m);
            }
            What::Skew(m) => {
                self.machines[m as usize].old = false;
                self.speak_of_the_future(m);
            }
        }
        self.look_at_the_weather();
    }

    /// Walls that come and go until the fault ends.
    fn flap(&mut self, number: usize, group: &[u32]) {
        self.network.wall(number, group, false);
        self.network.flap(number, self.now, FLAP);
    }

    fn down(&mut self, m: u32, power: bool) {
        self.stop(m);
        let lying = self.case.flaw == Some(Flaw::LyingDisk);
        let now = self.now;
        let machine = &mut self.machines[m as usize];
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
        let machine = &mut self.machines[m as usize];
        machine.holds = machine.holds.saturating_sub(1);
        if machine.holds == 0 && !machine.gone {
            self.enter(self.now, m, Event::Start);
        }
    }

    fn step_clock(&mut self, m: u32, secs: i64) {
        let before = self.running(m);
        let flawed = self.case.flaw == Some(Flaw::EpochPerStep);
        let machine = &mut self.machines[m as usize];
        machine.wall_off_ms += secs * 1_000;
        if let Some(up) = machine.up.as_mut().filter(|_| flawed) {
            up.log = up.store.begin_epoch().unwrap_or(up.log);
        }
        if self.running(m) != before {
            self.breaks("clock steps change no identity", format!("machine {m}"));
        }
    }

    fn freeze(&mut self, m: u32) {
        let machine = &mut self.machines[m as usize];
        machine.frozen = machine.up.is_some();
    }

    /// The process goes on, with what is left in its socket; the sampler's lost seconds stay lost.
    fn thaw(&mut self, m: u32) {
        let machine = &mut self.machines[m as usize];
        if !std::mem::take(&mut machine.frozen) {
            return;
        }
        machine.thawed = self.now;
        for event in std::mem::take(&mut machine.unread) {
            self.enter(self.now, m, event);
        }
    }

    /// Machines join through one member each; the news spreads from there.
    fn join(&mut self, count: u32) {
        for number in 0..count {
            let Some(through) = self.somebody_up() else {
                return;
            };
            let who = self.new_identity();
            let mut roster = (*self.machines[through as usize].roster).clone();
            roster.insert(who);
            let roster = std::rc::Rc::new(roster);
            let disk = SimDisk::new(self.case.disk_bytes());
            let m = self.add_machine(Machine::new(
                who,
                disk,
                std::rc::Rc::clone(&roster),
                self.now,
            ));
            self.learn(through, &roster);
            self.enter(self.now + JOINING * number, m, Event::Start);
        }
    }

    fn somebody_up(&mut self) -> Option<u32> {
        let up: Vec<u32> = (0..self.machines.len() as u32)
            .filter(|m| {
                let machine = &self.machines[*m as usize];
                machine.up.is_some() && !machine.frozen && machine.who == *m
            })
            .collect();
        (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())])
    }

    /// The same keys and the same disk on a second machine.
    fn copy(&mut self, number: usize, m: u32) {
        let original = &self.machines[m as usize];
        let disk = self.healthy(original.disk.image());
        let copy = Machine::new(original.who, disk, original.roster.clone(), self.now);
        let copy = self.add_machine(copy);
        self.made.insert(number, copy);
        self.enter(self.now, copy, Event::Start);
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
        let lost: Vec<(LogId, IntervalSet)> = std::mem::take(&mut self.machines[m as usize].before)
            .into_iter()
            .collect();
        for (log, rows) in lost {
            self.excuse_unless_held(&log, rows);
        }
    }

    /// A later release says things nobody here knows.
    fn speak_of_the_future(&mut self, m: u32) {
        let peers: Vec<u32> = self.machines[m as usize]
            .sessions
            .up
            .keys()
            .copied()
            .collect();
        for peer in peers {
            for kind in [99, 200, 255] {
                let body: Vec<u8> = (0..self.rng.random_range(0..900))
                    .map(|_| self.rng.random())
                    .collect();
                self.send(m, peer, kind, body.into());
            }
        }
    }
}
