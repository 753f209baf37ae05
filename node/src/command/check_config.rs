//! `check-config`: whether the configuration can be read, and what it comes to.

use crate::cli::Global;
use crate::config::{Config, DEFAULT_FILE};
use crate::failure::Failure;
use crate::text::Printer;

pub(super) fn run(global: &Global, out: &mut Printer) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?;
    let file = global
        .config
        .as_deref()
        .unwrap_or_else(|| DEFAULT_FILE.as_ref());
    let seen = if file.exists() {
        "fine"
    } else {
        "absent, these are the defaults"
    };
    out.line(format!("{}: {seen}", file.display()))?;
    let listen = config
        .listen
        .map_or_else(|| "[::]:51800".to_owned(), |address| address.to_string());
    out.line(format!("listen = \"{listen}\""))?;
    out.line(format!("endpoints = {:?}", config.endpoints))?;
    out.line(format!("dashboard = \"{}\"", config.dashboard))?;
    match config.store_limit_bytes {
        Some(limit) => out.line(format!("store.limit_bytes = {limit}")),
        None => out.line("# store.limit_bytes: 2 GiB, or 5 % of the file system if that is less"),
    }
}
