//! A child process that ends with its owner: dropped, it is killed as by a power cut and reaped.

use std::process::Child;

/// The running process. One that has ended by itself is merely reaped.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
