//! What admins settled: for the mesh, and for single members, which goes before it.
//!
//! In: policies in order of time. Out: a value by key, and what it means. A key or value that this version doesn't
//! understand is kept and has no effect.
//! Absent: signing (`policy`), and acting on it: keepers, summaries and the store do.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::payload::{Policy, is_name};
use crate::id::NodeId;

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Where machines stand that lose power or their link together: a name.
    Site,
    /// Whether each byte to and from the machine costs money: `on` or `off`.
    Metered,
    /// Whether the machine may be off without anything being wrong: `on` or `off`.
    MayBeOff,
    /// Bytes the store may take: `512MiB`, `2GiB`.
    Retention,
}

/// Why something cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such key.
    #[error("there is no setting \"{key}\"; there are {}", Setting::names())]
    Unknown {
        /// As it was typed.
        key: String,
    },
    /// The value is none of this key.
    #[error("{key} takes {takes}, not \"{value}\"")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it takes.
        takes: &'static str,
        /// What it was given.
        value: String,
    },
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Site, Self::Metered, Self::MayBeOff, Self::Retention];

    /// The least a store can work in.
    const LEAST_RETENTION: u64 = 64 << 20;

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Metered => "metered",
            Self::MayBeOff => "may-be-off",
            Self::Retention => "retention",
        }
    }

    /// What it takes, in words.
    #[must_use]
    pub const fn takes(self) -> &'static str {
        match self {
            Self::Site => "a name of 1 to 63 letters of a-z, 0-9 and -",
            Self::Metered | Self::MayBeOff => "on or off",
            Self::Retention => "64MiB or more, such as 512MiB or 2GiB",
        }
    }

    /// Refuses a value that would mean nothing.
    pub fn check(self, value: &str) -> Result<(), SettingError> {
        let good = match self {
            Self::Site => is_name(value),
            Self::Metered | Self::MayBeOff => matches!(value, "on" | "off"),
            Self::Retention => bytes(value).is_some(),
        };
        good.then_some(()).ok_or_else(|| SettingError::Value {
            key: self.as_str(),
            takes: self.takes(),
            value: value.chars().take(40).collect(),
        })
    }

    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| SettingError::Unknown {
            key: text.chars().take(40).collect(),
        })
    }
}

/// A number and a unit that is a power of 1,024. `None`: it is none, or too little.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = [("MiB", 20), ("GiB", 30), ("TiB", 40)]
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    let number: u64 = number.parse().ok()?;
    let bytes = number.checked_mul(1 << shift)?;
    (bytes >= Setting::LEAST_RETENTION).then_some(bytes)
}

/// Everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<(Option<NodeId>, String), String>,
}

impl Settings {
    /// Takes the next policy; it replaces what was said before on its key.
    pub(super) fn take(&mut self, policy: &Policy) {
        let key = (policy.node, policy.key.clone());
        match &policy.value {
            Some(value) => self.values.insert(key, value.clone()),
            None => self.values.remove(&key),
        };
    }

    /// What is set, for the mesh first: which member (`None`: all), key, value.
    pub fn iter(&self) -> impl Iterator<Item = (Option<NodeId>, &str, &str)> {
        self.values
            .iter()
            .map(|((node, key), value)| (*node, key.as_str(), value.as_str()))
    }

    /// What holds for a member: its own value, else the mesh's. `None`: nothing that this version understands.
    #[must_use]
    pub fn of(&self, node: &NodeId, setting: Setting) -> Option<&str> {
        let own = (Some(*node), setting.as_str().to_owned());
        let all = (None, setting.as_str().to_owned());
        let mut said = [own, all]
            .into_iter()
            .filter_map(|key| self.values.get(&key));
        said.find(|value| setting.check(value).is_ok())
            .map(String::as_str)
    }

    /// The site of a member.
    #[must_use]
    pub fn site(&self, node: &NodeId) -> Option<&str> {
        self.of(node, Setting::Site)
    }

    /// Whether a switch is on for a member. Off where nothing is set.
    #[must_use]
    pub fn is_on(&self, node: &NodeId, setting: Setting) -> bool {
        self.of(node, setting) == Some("on")
    }

    /// Bytes a member's store may take. `None`: its own choice.
    #[must_use]
    pub fn retention_bytes(&self, node: &NodeId) -> Option<u64> {
        self.of(node, Setting::Retention).and_then(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    fn policy(node: Option<NodeId>, key: &str, value: Option<&str>) -> Policy {
        Policy {
            node,
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn a_members_own_value_goes_before_the_meshs_and_what_is_taken_back_is_unset() {
        let mut settings = Settings::default();
        settings.take(&policy(None, "site", Some("home")));
        settings.take(&policy(Some(NODE), "site", Some("attic")));
        settings.take(&policy(None, "metered", Some("on")));
        settings.take(&policy(Some(NODE), "metered", Some("off")));
        assert_eq!(
            (settings.site(&NODE), settings.site(&OTHER)),
            (Some("attic"), Some("home"))
        );
        assert!(
            !settings.is_on(&NODE, Setting::Metered) && settings.is_on(&OTHER, Setting::Metered)
        );
        settings.take(&policy(Some(NODE), "site", None));
        assert_eq!(settings.site(&NODE), Some("home"));
        assert!(
            !settings.is_on(&NODE, Setting::MayBeOff),
            "what nobody set is off"
        );
    }

    #[test]
    fn what_this_version_does_not_understand_has_no_effect() {
        let mut settings = Settings::default();
        settings.take(&policy(None, "site", Some("home")));
        settings.take(&policy(Some(NODE), "site", Some("Not A Name")));
        settings.take(&policy(None, "colour", Some("blue")));
        assert_eq!(settings.site(&NODE), Some("home"));
        assert_eq!(settings.iter().count(), 3, "it is kept");
    }

    #[test]
    fn values_are_checked_by_their_key() {
        let good = [
            ("site", "cellar-2"),
            ("metered", "on"),
            ("may-be-off", "off"),
            ("retention", "64MiB"),
            ("retention", "2GiB"),
        ];
        for (key, value) in good {
            assert_eq!(
                key.parse::<Setting>().unwrap().check(value),
                Ok(()),
                "{key}={value}"
            );
        }
        let bad = [
            ("site", ""),
            ("site", "Cellar"),
            ("metered", "yes"),
            ("may-be-off", ""),
            ("retention", "63MiB"),
            ("retention", "2GB"),
            ("retention", "-1GiB"),
            ("retention", "99999999999999TiB"),
        ];
        for (key, value) in bad {
            assert!(
                key.parse::<Setting>().unwrap().check(value).is_err(),
                "{key}={value}"
            );
        }
        assert_eq!(
            "sight".parse::<Setting>().unwrap_err().to_string(),
            "there is no setting \"sight\"; there are site, metered, may-be-off, retention"
        );
        let mut settings = Settings::default();
        settings.take(&policy(None, "retention", Some("3GiB")));
        assert_eq!(settings.retention_bytes(&NODE), Some(3 << 30));
    }
}
