//! `doctor`: what is wrong here, and the command that mends it.

use serde_json::{Value, json};

use crate::cli::{Global, JsonArgs};
use crate::doctor::{self, Finding, Verdict};
use crate::failure::{FAILED, Failure};
use crate::text::{Printer, Tone};

pub(super) fn run(global: &Global, arguments: &JsonArgs, out: &mut Printer) -> Result<(), Failure> {
    let findings = doctor::examine(&doctor::gather(global)?);
    if arguments.json {
        out.json(&as_json(&findings))?;
    } else {
        show(&findings, out)?;
    }
    if of(&findings, Verdict::Fail) == 0 {
        return Ok(());
    }
    out.flush()?;
    // What failed has been said.
    Err(Failure {
        exit: FAILED,
        message: String::new(),
    })
}

fn of(findings: &[Finding], verdict: Verdict) -> usize {
    findings
        .iter()
        .filter(|found| found.verdict == verdict)
        .count()
}

fn as_json(findings: &[Finding]) -> Value {
    let listed: Vec<Value> = findings
        .iter()
        .map(|found| {
            json!({
                "check": found.check,
                "verdict": found.verdict.as_str(),
                "says": found.says,
                "mend": found.mend,
            })
        })
        .collect();
    json!({
        "findings": listed,
        "failed": of(findings, Verdict::Fail),
        "warned": of(findings, Verdict::Warn),
    })
}

fn show(findings: &[Finding], out: &mut Printer) -> Result<(), Failure> {
    let widest = findings
        .iter()
        .map(|found| found.check.chars().count())
        .max()
        .unwrap_or(0);
    for found in findings {
        let tone = match found.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warn => Tone::Doubtful,
            Verdict::Fail => Tone::Bad,
        };
        let verdict = out.toned(tone, &format!("{:<4}", found.verdict.as_str()));
        out.line(format!(
            "{verdict}  {:<widest$}  {}",
            found.check, found.says
        ))?;
        if let Some(mend) = &found.mend {
            out.line(format!("{:6}{:widest$}  -> {mend}", "", ""))?;
        }
    }
    out.line("")?;
    out.line(format!(
        "{} fine, {} to look at, {} to mend",
        of(findings, Verdict::Ok),
        of(findings, Verdict::Warn),
        of(findings, Verdict::Fail)
    ))
}
