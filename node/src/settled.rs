//! What is set for the mesh and for each node, as `get --json` says it.
//!
//! In: the folded statements. Out: JSON; a setting that nobody made is `null` for the mesh and what that means for a node.
//! Absent: what a node's own configuration says instead; only that node knows.

use outlast_mesh::NodeId;
use outlast_mesh::trust::{Setting, State};
use serde_json::{Map, Value, json};

use crate::config::Bound;

/// Everything that is set, for one node or for all, in the order of their names; of all, those that were replaced are
/// left out.
pub(crate) fn shown(state: &State, only: Option<NodeId>) -> Value {
    let mut members: Vec<_> = state.members.values().collect();
    members.retain(|member| match only {
        Some(node) => member.id == node,
        None => member.replaced_by.is_none(),
    });
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let nodes: Vec<Value> = members
        .into_iter()
        .map(|member| node(state, member.id, &member.name))
        .collect();
    json!({ "mesh": mesh(state), "nodes": nodes })
}

fn mesh(state: &State) -> Value {
    // Nobody's id: what holds for it is what is set for all.
    let nobody = NodeId([0; 32]);
    let settings = &state.settings;
    let switch = |setting| settings.of(&nobody, setting).map(|value| value == "on");
    json!({
        "site": settings.site(&nobody),
        "metered": switch(Setting::Metered),
        "may_be_off": switch(Setting::MayBeOff),
        "retention_bytes": settings.retention_bytes(&nobody),
    })
}

fn node(state: &State, id: NodeId, name: &str) -> Value {
    let settings = &state.settings;
    let from: Map<String, Value> = Setting::ALL
        .into_iter()
        .filter_map(|setting| Some((field(setting).to_owned(), json!(from(state, id, setting)?))))
        .collect();
    json!({
        "id": id.to_string(),
        "name": name,
        "site": settings.site(&id),
        "metered": settings.is_on(&id, Setting::Metered),
        "may_be_off": settings.is_on(&id, Setting::MayBeOff),
        "retention_bytes": settings.retention_bytes(&id),
        "from": from,
    })
}

/// Whether a value in force was set for the node or for the mesh. `None`: for neither.
fn from(state: &State, id: NodeId, setting: Setting) -> Option<&'static str> {
    let in_force = state.settings.of(&id, setting)?;
    let own = state.settings.iter().any(|(node, key, value)| {
        node == Some(id)
            && key == setting.as_str()
            && value == in_force
            && setting.check(value).is_ok()
    });
    Some(if own { "node" } else { "mesh" })
}

/// How JSON calls a setting.
pub(crate) fn field(setting: Setting) -> &'static str {
    match setting {
        Setting::Site => "site",
        Setting::Metered => "metered",
        Setting::MayBeOff => "may_be_off",
        Setting::Retention => "retention_bytes",
    }
}

/// What holds at this node for its store, and who says so.
pub(crate) fn here(me: NodeId, bound: Bound, retention_bytes: Option<u64>) -> Value {
    json!({
        "id": me.to_string(),
        "limit_bytes": bound.bytes,
        "limit_from": bound.from.as_str(),
        "retention_bytes": retention_bytes,
    })
}
