//! A machine with a simulated disk, and the store on it from one start to the next.

use super::*;
use crate::disk::Disk;

pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) now: Instant,
    pub(super) limit_bytes: u64,
    pub(super) tuning: Tuning,
    pub(super) seed: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            disk: SimDisk::new(1 << 30),
            now: Instant::now(),
            limit_bytes: 64 << 20,
            tuning: Tuning::simulated(),
            seed: 1,
        }
    }

    pub(super) fn open(&mut self) -> Store {
        self.seed += 1;
        let config = StoreConfig {
            limit_bytes: self.limit_bytes,
            sync_every: Duration::from_secs(1),
            ..config(Path::new("/store"))
        };
        let disk = self.disk.clone();
        Store::simulated_tuned(disk, config, keys(ME), self.tuning, self.now, self.seed).unwrap()
    }

    pub(super) fn step(&mut self, store: &Store, after: Duration) {
        self.now += after;
        store.step(self.now);
    }

    pub(super) fn disk(&self) -> Disk {
        Disk::Simulated(self.disk.clone())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.disk().exists(&Path::new("/store").join(name))
    }
}
