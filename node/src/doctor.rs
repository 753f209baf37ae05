//! What is wrong with this node and its machine, and the command that mends it.
//!
//! In: facts, gathered once (`facts.rs`). Out: findings, each a verdict, a sentence, and how to mend it.
//! Invariant: looking changes nothing and needs no network; a check is a pure function of the facts.
//! Absent: printing (`command/doctor.rs`), and anything only the other machines could tell.

mod clock;
mod disk;
mod facts;
mod machine;
mod node;
mod state;
mod store;

#[cfg(test)]
mod tests;

pub(crate) use facts::{Facts, gather};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something about it will bite one day.
    Warn,
    /// It does not work, or lets strangers in.
    Fail,
}

impl Verdict {
    /// The word shown to people and scripts.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How it came out.
    pub(crate) verdict: Verdict,
    /// One sentence with the values seen.
    pub(crate) says: String,
    /// The command that mends it, or what to do where no command can. `None` when nothing is to be done.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            says: says.into(),
            mend: None,
        }
    }

    fn warn(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Warn,
            says: says.into(),
            mend: Some(mend.into()),
        }
    }

    fn fail(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(check, says, mend)
        }
    }
}

/// Everything there is to say, in the order in which a person would look.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![state::configuration(facts)];
    findings.extend(state::directory(facts));
    findings.push(state::keys(facts));
    findings.extend(disk::space(facts));
    findings.extend(disk::kind(facts));
    findings.push(clock::reads(facts));
    findings.extend(clock::peers(facts));
    findings.push(node::runs(facts));
    findings.extend(machine::udp_port(facts));
    findings.extend(machine::page(facts));
    findings.push(machine::ipv6(facts));
    findings.push(machine::receive_buffer(facts));
    findings.extend(machine::sources(facts));
    findings.extend(machine::failing_sources(facts));
    findings.push(machine::service(facts));
    findings.extend(store::store(facts));
    findings.extend(node::peers(facts));
    findings.extend(node::notices(facts));
    findings
}

/// A path as an argument that a shell takes for one word.
fn quoted(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", crate::text::visible(&text).replace('\'', r"'\''"))
}
