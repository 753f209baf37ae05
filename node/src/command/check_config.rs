//! `check-config`: whether the configuration can be read, and what it comes to.
//!
//! In: the file that is named, or the default one. Out: every key with the value in force.
//! Absent: whether ports are free and names resolve; `doctor` and `up` say that.

use serde_json::{Value, json};

use crate::cli::{Global, JsonArgs};
use crate::collect::ups;
use crate::config::{Config, DEFAULT_FILE, default_listen};
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::Printer;

pub(super) fn run(global: &Global, arguments: &JsonArgs, out: &mut Printer) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?;
    let file = global
        .config
        .as_deref()
        .unwrap_or_else(|| DEFAULT_FILE.as_ref());
    let listen = config.listen.unwrap_or_else(default_listen);
    let limit = config.store_limit(StateDir::resolve(global)?.path());
    if arguments.json {
        return out.json(&json!({
            "file": if file.exists() { json!(file.to_string_lossy()) } else { Value::Null },
            "listen": listen,
            "endpoints": config.endpoints,
            "dashboard": config.dashboard,
            "store": { "limit_bytes": limit },
            "repair": { "unlimited": config.unlimited_repair },
            "measure": { "ups": config.measure.ups, "reach": config.measure.reach },
        }));
    }
    let seen = if file.exists() {
        "fine"
    } else {
        "absent, these are the defaults"
    };
    out.line(format!("# {}: {seen}", file.display()))?;
    out.line(format!("listen = \"{listen}\""))?;
    out.line(format!("endpoints = {:?}", config.endpoints))?;
    out.line(format!("dashboard = \"{}\"", config.dashboard))?;
    out.line("[store]")?;
    match config.store_limit_bytes {
        Some(limit) => out.line(format!("limit_bytes = {limit}"))?,
        None => out.line(format!(
            "limit_bytes = {limit} # 2 GiB, or 5 % of the file system if that is less"
        ))?,
    }
    out.line("[repair]")?;
    out.line(format!("unlimited = {}", config.unlimited_repair))?;
    out.line("[measure]")?;
    out.line(format!("reach = {:?}", config.measure.reach))?;
    let ups = config.measure.ups.as_deref();
    let whose = if ups.is_some() {
        ""
    } else {
        " # where one answers"
    };
    out.line(format!("ups = \"{}\"{whose}", ups.unwrap_or(ups::DEFAULT)))
}
