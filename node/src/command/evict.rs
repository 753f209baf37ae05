//! `evict` and `retire`: a node belongs to the mesh no more; who has heard of it and who hasn't yet.
//!
//! In: a node, why, and for `evict` since when nothing it vouched for counts. Out: one sentence, then who has confirmed.
//! Invariant: nobody evicts the node they stand on by mistake, or one that is gone already.
//! Absent: what the others do about it; each node does that as it learns of it.

use outlast_mesh::NodeId;
use outlast_mesh::trust::{Manner, Revocation, State, Target, issue_revoke};
use serde_json::json;

use super::sign::{Desk, Signer, now_ms};
use crate::cli::{EvictArgs, Global, RetireArgs, SignArgs};
use crate::failure::Failure;
use crate::text::{Printer, aside, visible};

pub(super) fn evict(
    global: &Global,
    arguments: &EvictArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let asked = Asked {
        node: &arguments.node,
        manner: Manner::Evicted,
        reason: arguments.reason.as_deref().unwrap_or_default(),
        since_ms: arguments.since,
        json: arguments.json,
        sign: &arguments.sign,
    };
    asked.remove(global, out)
}

pub(super) fn retire(
    global: &Global,
    arguments: &RetireArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let asked = Asked {
        node: &arguments.node,
        manner: Manner::Retired,
        reason: arguments.reason.as_deref().unwrap_or_default(),
        since_ms: None,
        json: arguments.json,
        sign: &arguments.sign,
    };
    asked.remove(global, out)
}

/// Who is to go, and how.
struct Asked<'a> {
    node: &'a str,
    manner: Manner,
    reason: &'a str,
    since_ms: Option<i64>,
    json: bool,
    sign: &'a SignArgs,
}

impl Asked<'_> {
    fn remove(&self, global: &Global, out: &mut Printer) -> Result<(), Failure> {
        let mut desk = Desk::open(global, Signer::Owner(self.sign))?;
        let before = desk.statements.state();
        let (id, name) = desk.anybody(self.node)?;
        if desk.me == Some(id) {
            return Err(Failure::usage(format!(
                "{} is this node: `outlast leave` takes it out of the mesh, and another member can {} it",
                visible(&name),
                self.verb()
            )));
        }
        // Of a machine that is retired both branches count, should it have come back from an old image.
        let cut = match self.manner {
            Manner::Evicted => desk.cut(id.0, self.since_ms)?,
            Manner::Retired | Manner::Left => None,
        };
        let revocation = Revocation {
            target: Target::Node(id),
            manner: self.manner,
            cut,
            reason: self.reason,
        };
        let revoke = issue_revoke(&desk.admin.key, &desk.statements, &revocation, now_ms());
        desk.sign(revoke.map_err(anyhow::Error::from)?)?;
        let also = also_gone(&before, &desk.statements.state(), id);
        let mut told = desk.publish()?;
        let confirmed = told.confirmed()?;
        if self.json {
            let mut answer = json!({
                "node": { "id": id.to_string(), "name": name },
                "state": self.done(),
                "reason": self.reason,
                "also": also,
            });
            confirmed.add_to(&mut answer);
            return out.json(&answer);
        }
        out.line(match self.reason {
            "" => format!("{} is {}", visible(&name), self.done()),
            reason => format!("{} is {}: {}", visible(&name), self.done(), visible(reason)),
        })?;
        if !also.is_empty() {
            let also: Vec<_> = also.iter().map(|name| visible(name)).collect();
            out.line(format!(
                "members no more either, by what it vouched for since then: {}",
                also.join(", ")
            ))?;
        }
        confirmed.show(out)?;
        told.remark(out)?;
        if self.manner == Manner::Evicted {
            aside(
                "it keeps what it knows up to now, and whoever has its disk can read that; settings and history of the others reach it no more",
            );
        }
        Ok(())
    }

    const fn verb(&self) -> &'static str {
        match self.manner {
            Manner::Evicted => "evict",
            Manner::Retired | Manner::Left => "retire",
        }
    }

    const fn done(&self) -> &'static str {
        match self.manner {
            Manner::Evicted => "evicted",
            Manner::Retired | Manner::Left => "retired",
        }
    }
}

/// Who else is no member any more, by name.
fn also_gone(before: &State, after: &State, removed: NodeId) -> Vec<String> {
    let lost = before.members.values();
    let lost =
        lost.filter(|member| member.id != removed && !after.members.contains_key(&member.id));
    let mut names: Vec<String> = lost.map(|member| member.name.clone()).collect();
    names.sort_unstable();
    names
}
