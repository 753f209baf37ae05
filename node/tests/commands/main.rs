//! The program as it is typed: help, exit codes, exact sentences, pipes, disks. No node runs here.

mod disks;
mod founding;
mod help;
mod home;
mod mistakes;
mod pipes;
mod settings;
mod terminal;
mod trust;
