//! `demo`.
use crate::cli::DemoArgs;
use crate::failure::Failure;
use crate::text::Printer;

pub(super) fn run(_arguments: &DemoArgs, _out: &mut Printer) -> Result<(), Failure> {
    Err(Failure::new("not yet"))
}
