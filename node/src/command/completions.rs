//! `completions`: what a shell needs to complete our commands.

use clap_complete::Shell;

use crate::cli;
use crate::failure::Failure;
use crate::text::Printer;

pub(super) fn run(shell: Shell, out: &mut Printer) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::shown(), "outlast", &mut script);
    out.raw(&String::from_utf8_lossy(&script))
}
