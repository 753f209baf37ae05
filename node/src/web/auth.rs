//! Who may see the page: login tickets in, session cookies out.
//!
//! A ticket is made on the machine itself (`outlast dashboard`), works once and for ten minutes.
//! It is exchanged for a cookie that carries its own end and a keyed hash over it, so sessions
//! survive restarts and nothing about them is stored.
//! Absent: passwords, and which hosts may ask at all (`guard.rs`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use data_encoding::BASE32_NOPAD;
use outlast_mesh::NodeId;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How long a login link works. Long enough to be carried to a phone.
const TICKET_LIFE: Duration = Duration::from_mins(10);

/// How many login links may wait at once. One more, and the oldest stops working.
const MAX_TICKETS: usize = 64;

/// How long a browser stays logged in.
const SESSION_LIFE: Duration = Duration::from_hours(30 * 24);

/// The longest cookie value that is looked at.
const MAX_COOKIE: usize = 128;

/// The one-use login links that wait to be opened. Cloned freely; all clones share them.
#[derive(Clone, Default)]
pub struct Tickets {
    waiting: Arc<Mutex<VecDeque<Ticket>>>,
}

struct Ticket {
    /// Only the hash is kept: a memory dump holds no working link.
    hash: blake3::Hash,
    issued: Instant,
}

impl Tickets {
    /// No links yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a ticket: what follows `/login?ticket=` in a link that works once, for ten minutes.
    #[must_use]
    pub fn issue(&self) -> String {
        self.issue_at(Instant::now())
    }

    /// Takes a ticket out; false where it was never made, was used, or is too old.
    pub(super) fn redeem(&self, text: &str) -> bool {
        self.redeem_at(text, Instant::now())
    }

    fn issue_at(&self, now: Instant) -> String {
        let mut secret = Zeroizing::new([0; 20]);
        getrandom::fill(&mut *secret)
            .expect("the kernel's random source works on a running system");
        let text = BASE32_NOPAD.encode(&*secret).to_lowercase();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MAX_TICKETS {
            waiting.pop_front();
        }
        waiting.push_back(Ticket {
            hash: blake3::hash(text.as_bytes()),
            issued: now,
        });
        text
    }

    fn redeem_at(&self, text: &str, now: Instant) -> bool {
        let hash = blake3::hash(text.as_bytes());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|ticket| now.duration_since(ticket.issued) < TICKET_LIFE);
        // blake3::Hash compares in constant time.
        let found = waiting.iter().position(|ticket| ticket.hash == hash);
        found.is_some_and(|at| waiting.remove(at).is_some())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// The key under which this node's session cookies are made: 32 bytes, in `web.key`.
#[derive(Clone)]
pub struct WebKey(Zeroizing<[u8; 32]>);

impl WebKey {
    /// Wraps the bytes of a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a new key.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).expect("the kernel's random source works on a running system");
        Self(bytes)
    }

    /// Reads the base64 form that `web.key` holds.
    pub fn from_base64(text: &str) -> anyhow::Result<Self> {
        let bytes = Zeroizing::new(
            data_encoding::BASE64
                .decode(text.trim().as_bytes())
                .context("not base64")?,
        );
        let bytes: [u8; 32] = bytes.as_slice().try_into().context("not 32 bytes")?;
        Ok(Self::new(bytes))
    }

    /// The form that `web.key` holds, without its line end.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::BASE64.encode(&*self.0))
    }
}

impl fmt::Debug for WebKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebKey(..)")
    }
}

/// Makes and checks the session cookies of one node.
#[derive(Debug)]
pub(super) struct Sessions {
    key: WebKey,
    node: NodeId,
    cookie: String,
}

impl Sessions {
    pub(super) fn new(key: WebKey, node: NodeId) -> Self {
        let id = node.to_string();
        // Cookies know no ports: several nodes on one host must not overwrite each other's.
        let cookie = format!("outlast_{}", id.get(..8).unwrap_or(&id));
        Self { key, node, cookie }
    }

    /// What follows `Set-Cookie:` for a browser that has just logged in.
    pub(super) fn set_cookie(&self, now_s: u64) -> String {
        let life_s = SESSION_LIFE.as_secs();
        let end_s = now_s.saturating_add(life_s);
        let mac = self.mac(end_s).to_hex();
        format!(
            "{}={end_s}.{mac}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict",
            self.cookie
        )
    }

    /// Whether a `Cookie:` header holds a session of this node that has not ended.
    pub(super) fn admits(&self, header: &str, now_s: u64) -> bool {
        header
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, value)| *name == self.cookie && value.len() <= MAX_COOKIE)
            .any(|(_, value)| self.is_valid(value, now_s))
    }

    fn is_valid(&self, value: &str, now_s: u64) -> bool {
        let Some((end, mac)) = value.split_once('.') else {
            return false;
        };
        let Ok(end_s) = end.parse::<u64>() else {
            return false;
        };
        let genuine: bool = self
            .mac(end_s)
            .to_hex()
            .as_bytes()
            .ct_eq(mac.as_bytes())
            .into();
        // An end beyond a whole life from here was written under a clock that was ahead.
        genuine && now_s < end_s && end_s - now_s <= SESSION_LIFE.as_secs()
    }

    fn mac(&self, end_s: u64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(b"outlast/session/1\0");
        hasher.update(&self.node.0);
        hasher.update(&end_s.to_be_bytes());
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 24 * 3600;

    #[test]
    fn a_ticket_works_once() {
        let tickets = Tickets::new();
        let ticket = tickets.issue();
        assert!(tickets.redeem(&ticket));
        assert!(!tickets.redeem(&ticket));
        assert!(!tickets.redeem(""));
    }

    #[test]
    fn a_ticket_ends_after_ten_minutes() {
        let tickets = Tickets::new();
        let start = Instant::now();
        let (early, late) = (tickets.issue_at(start), tickets.issue_at(start));
        assert!(tickets.redeem_at(&early, start + Duration::from_secs(599)));
        assert!(!tickets.redeem_at(&late, start + Duration::from_secs(600)));
    }

    #[test]
    fn the_oldest_of_too_many_tickets_stops_working() {
        let tickets = Tickets::new();
        let all: Vec<String> = (0..=MAX_TICKETS).map(|_| tickets.issue()).collect();
        assert!(!tickets.redeem(&all[0]));
        assert!(tickets.redeem(&all[1]));
        assert!(tickets.redeem(&all[MAX_TICKETS]));
    }

    #[test]
    fn a_session_lasts_thirty_days_and_survives_a_restart() {
        let header = header(&sessions(1, 1).set_cookie(1_000));
        assert!(sessions(1, 1).admits(&header, 1_000));
        assert!(sessions(1, 1).admits(&format!("a=b; {header}; c"), 1_000 + 30 * DAY_S - 1));
        assert!(!sessions(1, 1).admits(&header, 1_000 + 30 * DAY_S));
    }

    #[test]
    fn a_cookie_of_another_key_or_node_is_refused() {
        let header = header(&sessions(1, 1).set_cookie(1_000));
        assert!(!sessions(2, 1).admits(&header, 1_000));
        assert!(!sessions(1, 2).admits(&header, 1_000));
        let (_, value) = header.split_once('=').unwrap();
        let renamed = format!("{}={value}", sessions(1, 2).cookie);
        assert!(!sessions(1, 2).admits(&renamed, 1_000));
    }

    #[test]
    fn a_cookie_with_any_letter_changed_is_refused() {
        let sessions = sessions(1, 1);
        let header = header(&sessions.set_cookie(1_000));
        let value_at = header.find('=').unwrap() + 1;
        for at in value_at..header.len() {
            let mut bytes = header.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!sessions.admits(&changed, 1_000), "{changed}");
        }
        for text in ["", "=", "outlast_", &format!("{}=", sessions.cookie), "."] {
            assert!(!sessions.admits(text, 1_000), "{text}");
        }
    }

    #[test]
    fn a_key_reads_what_it_wrote() {
        let key = WebKey::generate();
        let read = WebKey::from_base64(&format!("{}\n", *key.to_base64())).unwrap();
        assert_eq!(*read.0, *key.0);
        assert!(WebKey::from_base64("AAAA").is_err());
        assert!(WebKey::from_base64("!").is_err());
        assert_eq!(format!("{key:?}"), "WebKey(..)");
    }

    fn sessions(key: u8, node: u8) -> Sessions {
        Sessions::new(WebKey::new([key; 32]), NodeId([node; 32]))
    }

    fn header(set_cookie: &str) -> String {
        set_cookie.split(';').next().unwrap().to_owned()
    }
}
