//! What happened to the mesh since this node started, in its log: who came, went or was renamed, who decides, who waits.
//!
//! In: the folded state, looked at every `LOOK`. Out: a line for each difference.
//! Invariant: what was so at the start is no news.
//! Absent: who is up; the mesh logs that itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outlast_mesh::trust::{Manner, State};
use outlast_mesh::{Mesh, NodeId};
use tokio_util::sync::CancellationToken;

use super::standing;
use crate::text::visible;

/// How often to look; a look copies what is held, some 0.1 ms at 100 members.
const LOOK: Duration = Duration::from_secs(5);

/// Follows the mesh until told to stop.
pub(super) async fn follow(mesh: Mesh, stop: CancellationToken) {
    let mut known = Known::of(&mesh.statements().await.state());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let state = mesh.statements().await.state();
        for news in known.learn(&state) {
            news.log();
        }
    }
}

/// What was logged, or was so at the start.
#[derive(Debug, Default)]
struct Known {
    state: Option<Arc<State>>,
    alarms: BTreeSet<String>,
}

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Came {
        name: String,
        id: String,
    },
    Renamed {
        from: String,
        to: String,
    },
    Went {
        name: String,
        why: String,
        thrown_out: bool,
    },
    Waits {
        name: String,
        id: String,
    },
    Admin {
        label: String,
        rank: u8,
    },
    AdminRevoked {
        label: String,
        by: String,
    },
    Alarm {
        title: String,
    },
}

impl Known {
    fn of(state: &Arc<State>) -> Self {
        let mut known = Self::default();
        known.learn(state);
        known
    }

    /// What differs from what was known.
    fn learn(&mut self, state: &Arc<State>) -> Vec<News> {
        let before = self.state.replace(Arc::clone(state));
        let mut news = Vec::new();
        if let Some(before) = before.filter(|before| before != state) {
            news.extend(members(&before, state));
            news.extend(admins(&before, state));
        }
        for alarm in standing::alarms(state) {
            let text = |field: &str| alarm[field].as_str().unwrap_or_default().to_owned();
            if self.alarms.insert(text("id")) {
                news.push(News::Alarm {
                    title: text("title"),
                });
            }
        }
        news
    }
}

fn members(before: &State, now: &State) -> Vec<News> {
    let mut news = Vec::new();
    for (id, gone) in new(&before.gone, &now.gone) {
        news.push(News::Went {
            name: gone.member.name.clone(),
            why: now.why_gone(id).unwrap_or_default(),
            thrown_out: gone.manner == Manner::Evicted,
        });
    }
    for (id, member) in new(&before.members, &now.members) {
        news.push(News::Came {
            name: member.name.clone(),
            id: id.short(),
        });
    }
    for (id, member) in &now.members {
        let old = before.members.get(id).filter(|old| old.name != member.name);
        news.extend(old.map(|old| News::Renamed {
            from: old.name.clone(),
            to: member.name.clone(),
        }));
    }
    for (id, pending) in new(&before.pending, &now.pending) {
        news.push(News::Waits {
            name: pending.name.clone(),
            id: id.short(),
        });
    }
    news
}

fn admins(before: &State, now: &State) -> Vec<News> {
    let mut news = Vec::new();
    for (key, admin) in &now.admins {
        let old = before.admins.get(key);
        if old.is_none() {
            news.push(News::Admin {
                label: admin.label.clone(),
                rank: admin.rank,
            });
        }
        let was_revoked = old.is_some_and(|old| old.revoked.is_some());
        if let Some(revoked) = admin.revoked.as_ref().filter(|_| !was_revoked) {
            news.push(News::AdminRevoked {
                label: admin.label.clone(),
                by: revoked.by_label.clone(),
            });
        }
    }
    news
}

fn new<'a, T>(
    before: &'a BTreeMap<NodeId, T>,
    now: &'a BTreeMap<NodeId, T>,
) -> impl Iterator<Item = (&'a NodeId, &'a T)> {
    now.iter().filter(|(id, _)| !before.contains_key(*id))
}

impl News {
    fn log(&self) {
        match self {
            Self::Came { name, id } => {
                tracing::info!(node = %visible(name), id, "a member came");
            }
            Self::Renamed { from, to } => {
                tracing::info!(node = %visible(from), to = %visible(to), "a member was renamed");
            }
            Self::Went {
                name,
                why,
                thrown_out,
            } => {
                let (node, why) = (visible(name), visible(why));
                if *thrown_out {
                    tracing::warn!(%node, %why, "a member was thrown out");
                } else {
                    tracing::info!(%node, %why, "a member went");
                }
            }
            Self::Waits { name, id } => {
                tracing::info!(node = %visible(name), id, "a node waits to be approved");
            }
            Self::Admin { label, rank } => {
                tracing::warn!(admin = %visible(label), rank, "a key decides from now on");
            }
            Self::AdminRevoked { label, by } => {
                tracing::warn!(admin = %visible(label), by = %visible(by), "a key decides no more");
            }
            Self::Alarm { title } => tracing::warn!(alarm = %visible(title), "alarm"),
        }
    }
}

#[cfg(test)]
mod tests {
    use outlast_mesh::trust::{
        Manner, Revocation, Statement, Statements, Target, found, issue_grant, issue_rename,
        issue_revoke,
    };
    use outlast_mesh::{AdminKey, NodeKey};

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn said(held: &mut Statements, known: &mut Known, statement: Statement) -> Vec<News> {
        held.insert(statement).unwrap();
        known.learn(&held.state())
    }

    #[test]
    fn each_thing_that_happens_is_told_once_and_what_was_so_at_the_start_is_not() {
        let (admin, node) = (AdminKey::generate(), NodeKey::generate().id());
        let (mesh, genesis) = found(&admin, node, "attic", "home", None, NOW_MS);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        let mut known = Known::of(&held.state());
        assert_eq!(known.learn(&held.state()), []);

        let ann = AdminKey::generate().public();
        let grant = issue_grant(&admin, &held, ann, None, "ann", NOW_MS).unwrap();
        let label = || "ann".to_owned();
        assert_eq!(
            said(&mut held, &mut known, grant),
            [News::Admin {
                label: label(),
                rank: 2
            }]
        );
        let rename = issue_rename(&admin, &held, node, "roof", NOW_MS).unwrap();
        let [from, to] = ["attic", "roof"].map(str::to_owned);
        assert_eq!(
            said(&mut held, &mut known, rename),
            [News::Renamed { from, to }]
        );
        let revoke = |held: &Statements, target, manner| {
            let revocation = Revocation {
                target,
                manner,
                cut: None,
                reason: "",
            };
            issue_revoke(&admin, held, &revocation, NOW_MS).unwrap()
        };
        let revoked = revoke(&held, Target::Admin(ann), Manner::Evicted);
        assert_eq!(
            said(&mut held, &mut known, revoked),
            [News::AdminRevoked {
                label: label(),
                by: "admin".to_owned()
            }]
        );
        let evicted = revoke(&held, Target::Node(node), Manner::Evicted);
        let news = said(&mut held, &mut known, evicted);
        assert!(
            matches!(&news[..], [News::Went { name, thrown_out: true, .. }] if name == "roof"),
            "{news:?}"
        );
        assert_eq!(known.learn(&held.state()), []);
    }
}
