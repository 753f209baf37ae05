//! What bounds a store, and what it let go, left out or set aside, in words: for `status` and `doctor`.
//!
//! In: the `store` part of a status. Absent: what is to be done about it.

use serde_json::Value;

use crate::text::{count, size, visible};

/// Who said how much it may take, where somebody did.
pub(crate) fn bound(store: &Value) -> Option<String> {
    let settled = store["retention_bytes"].as_u64();
    match (store["limit_from"].as_str()?, settled) {
        ("setting", _) => Some("the mesh's retention".to_owned()),
        ("configuration", Some(settled)) => Some(format!(
            "store.limit_bytes of its configuration, which goes before the mesh's retention of {}",
            size(settled)
        )),
        ("configuration", None) => Some("store.limit_bytes of its configuration".to_owned()),
        _ => None,
    }
}

/// What went because it had to, as agreed: to make room, or because bounds say so.
pub(crate) fn let_go(store: &Value) -> Vec<String> {
    said(&[
        (&store["gone_rows"]["budget"], "rows went to make room"),
        (
            &store["unkept"],
            "rows and blocks of others were not kept: the disk has too little room",
        ),
        (&store["refused"], "rows and blocks were refused at a bound"),
    ])
}

/// What should not have happened.
pub(crate) fn lost(store: &Value) -> Vec<String> {
    said(&[
        (
            &store["lost_rows"],
            "rows were given up in memory: the disk took none for too long",
        ),
        (
            &store["gone_rows"]["unwritten"],
            "rows never reached the disk, and nobody has brought them again",
        ),
        (
            &store["gone_rows"]["damaged"],
            "rows were damaged, and nobody has brought them again",
        ),
        (
            &store["damaged"],
            "damaged records or blocks were left out; the peers give back what they have",
        ),
        (
            &store["conflicts"],
            "identities came with two signed contents; one is kept, both are evidence",
        ),
    ])
}

/// Generations that were set aside, each with its reason.
pub(crate) fn set_aside(store: &Value) -> Vec<String> {
    let aside = store["quarantined"].as_array().into_iter().flatten();
    aside
        .map(|one| with_reason(text(&one["name"]), text(&one["reason"])))
        .collect()
}

/// A generation's name and why it was set aside; its directory is foreign text, too.
pub(crate) fn with_reason(name: &str, reason: &str) -> String {
    if reason.is_empty() {
        return visible(name).into_owned();
    }
    format!("{} ({})", visible(name), visible(reason))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn said(counts: &[(&Value, &str)]) -> Vec<String> {
    let counts = counts
        .iter()
        .map(|(number, what)| (number.as_u64().unwrap_or(0), what));
    counts
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_happened_is_said_each_with_its_number_and_reason() {
        let well = json!({ "lost_rows": 0, "gone_rows": { "budget": 0 }, "quarantined": [] });
        assert!(let_go(&well).is_empty() && lost(&well).is_empty() && set_aside(&well).is_empty());
        let store = json!({
            "gone_rows": { "budget": 86_400, "damaged": 0, "unwritten": 2 },
            "lost_rows": 60, "refused": 3, "unkept": 0, "damaged": 1, "conflicts": 0,
            "quarantined": [
                { "name": "gen-000003-17", "reason": "read: no answer\u{1b} within 30 s" },
                { "name": "gen-000004-18", "reason": "" },
            ],
        });
        assert_eq!(
            let_go(&store),
            [
                "86,400 rows went to make room",
                "3 rows and blocks were refused at a bound"
            ]
        );
        assert_eq!(
            lost(&store),
            [
                "60 rows were given up in memory: the disk took none for too long",
                "2 rows never reached the disk, and nobody has brought them again",
                "1 damaged records or blocks were left out; the peers give back what they have",
            ]
        );
        assert_eq!(
            set_aside(&store),
            [
                "gen-000003-17 (read: no answer\\u{1b} within 30 s)",
                "gen-000004-18"
            ]
        );
    }
}
