//! The program as a person meets it: the demo, the first commands, on loopback and without root.

mod commands;
mod demo;
mod disk;
mod liar;
mod manners;
mod one_key;
mod package;
mod replaced;
mod service;
mod settled;
mod trust;
mod views;

/// The daemon and its command line under test.
const OUTLAST: &str = env!("CARGO_BIN_EXE_outlast-under-test");
