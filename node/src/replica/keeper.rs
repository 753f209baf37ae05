//! Who keeps the rows of an origin.
//!
//! Up to 16 members everybody keeps everything. Above that an origin is kept by itself and by
//! the three members with the highest hash of (origin, member): any two nodes that know the same
//! members agree without a word, and one member more or less moves only its own share.

use std::collections::BTreeSet;

use outlast_store::Origin;

/// Up to this many members everybody keeps everything.
pub const EVERYBODY: usize = 16;
/// Keepers besides the origin in a larger mesh.
pub const KEEPERS: usize = 3;

/// Whether `member` keeps the rows of `origin`.
#[must_use]
pub fn keeps(members: &BTreeSet<Origin>, origin: &Origin, member: &Origin) -> bool {
    if origin == member || members.len() <= EVERYBODY {
        return members.contains(member);
    }
    let mine = weight(origin, member);
    let heavier = members
        .iter()
        .filter(|other| *other != origin && weight(origin, other) > mine);
    members.contains(member) && heavier.take(KEEPERS).count() < KEEPERS
}

fn weight(origin: &Origin, member: &Origin) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("outlast/keeper/1");
    hasher.update(&origin.0);
    hasher.update(&member.0);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> BTreeSet<Origin> {
        (0..count).map(|n| Origin([n; 32])).collect()
    }

    #[test]
    fn up_to_sixteen_members_everybody_keeps_everything() {
        let members = members(16);
        assert!(
            members
                .iter()
                .all(|origin| members.iter().all(|member| keeps(&members, origin, member)))
        );
    }

    #[test]
    fn a_larger_mesh_keeps_each_origin_at_itself_and_three_others() {
        let members = members(40);
        for origin in &members {
            let keepers: Vec<_> = members
                .iter()
                .filter(|member| keeps(&members, origin, member))
                .collect();
            assert_eq!(keepers.len(), KEEPERS + 1);
            assert!(keepers.contains(&origin));
        }
    }

    #[test]
    fn a_new_member_moves_at_most_one_keeper_of_an_origin() {
        let (before, after) = (members(40), members(41));
        for origin in &before {
            let of = |all: &BTreeSet<Origin>| {
                all.iter()
                    .filter(|m| keeps(all, origin, m))
                    .copied()
                    .collect::<BTreeSet<_>>()
            };
            assert!(of(&before).difference(&of(&after)).count() <= 1);
        }
    }

    #[test]
    fn a_stranger_keeps_nothing() {
        assert!(!keeps(&members(3), &Origin([1; 32]), &Origin([9; 32])));
        assert!(!keeps(&members(40), &Origin([1; 32]), &Origin([99; 32])));
    }
}
