//! The addresses behind what this node advertises, names among them.
//!
//! In: `HOST:PORT` texts. Out: the addresses known for them, at once those that are numbers. One
//! task looks names up again regularly, sooner while one has no answer or after `hurry`; a name
//! that stops resolving keeps what it last stood for. Bounds: `MOST_OF_A_NAME` addresses a name, one
//! look-up at a time, each waited for at most `PATIENCE`.
//! Absent: waiting for a look-up: without DNS a node starts as fast as with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How often names are looked up.
const EVERY: Duration = Duration::from_secs(300);

/// How often while one of them has no answer, and at most on request.
const SOON: Duration = Duration::from_secs(30);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses taken of a name: one of each family, as a rule.
const MOST_OF_A_NAME: usize = 2;

/// What is advertised, and a task that keeps it true.
#[derive(Debug)]
pub(super) struct Names {
    addresses: watch::Receiver<Vec<SocketAddr>>,
    /// The way to the task. `None` where every text is a number.
    hurry: Option<Arc<Notify>>,
}

impl Names {
    /// Takes the numbers, and begins to look for the names until stopped.
    pub(super) fn start(advertised: Vec<String>, stop: CancellationToken) -> Self {
        let mut all: Vec<Advertised> = advertised.into_iter().map(Advertised::of).collect();
        let (found, addresses) = watch::channel(together(&all));
        if all.iter().all(|one| one.is_number) {
            return Self {
                addresses,
                hurry: None,
            };
        }
        let hurry = Arc::new(Notify::new());
        let hurried = Arc::clone(&hurry);
        let follow = async move {
            loop {
                let answered = look(&mut all).await;
                let latest = together(&all);
                found.send_if_modified(|known| {
                    let changed = *known != latest;
                    *known = latest;
                    changed
                });
                let rest = if answered { EVERY } else { SOON };
                // Sooner on request, though never at once: a busy router stirs without end.
                tokio::time::sleep(SOON).await;
                let left = tokio::time::sleep(rest.saturating_sub(SOON));
                tokio::select! {
                    () = hurried.notified() => {}
                    () = left => {}
                }
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(follow).await });
        Self {
            addresses,
            hurry: Some(hurry),
        }
    }

    /// What is known.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }

    /// The network changed, so the answers may have.
    pub(super) fn hurry(&self) {
        if let Some(task) = &self.hurry {
            task.notify_one();
        }
    }

    /// Waits until something else is known. Cancelling loses nothing.
    pub(super) async fn changed(&mut self) {
        // The task is gone, or there never was one.
        if self.addresses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One text and what it stands for.
#[derive(Debug)]
struct Advertised {
    text: String,
    is_number: bool,
    addresses: Vec<SocketAddr>,
    /// It had no answer when last looked for; told once.
    lost: bool,
}

impl Advertised {
    fn of(text: String) -> Self {
        let number: Option<SocketAddr> = text.parse().ok();
        Self {
            is_number: number.is_some(),
            addresses: number.into_iter().collect(),
            text,
            lost: false,
        }
    }
}

/// Looks every name up. Whether all had an answer.
async fn look(all: &mut [Advertised]) -> bool {
    for one in all.iter_mut().filter(|one| !one.is_number) {
        let asked = tokio::net::lookup_host(one.text.clone());
        let found: Vec<SocketAddr> = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(addresses)) => addresses.take(MOST_OF_A_NAME).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let lost = found.is_empty();
        if lost && !one.lost {
            tracing::warn!(
                endpoint = %one.text,
                "an endpoint to advertise does not resolve, asking again"
            );
        }
        one.lost = lost;
        if !lost {
            one.addresses = found;
        }
    }
    all.iter().all(|one| !one.lost)
}

fn together(all: &[Advertised]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in all.iter().flat_map(|one| &one.addresses) {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(texts: &[&str]) -> (Names, CancellationToken) {
        let stop = CancellationToken::new();
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        (Names::start(texts, stop.clone()), stop)
    }

    #[tokio::test]
    async fn numbers_are_known_at_once_and_names_when_they_resolve() {
        let (mut names, _stop) = start(&["192.0.2.1:7", "localhost:8", "192.0.2.1:7"]);
        assert_eq!(names.addresses(), ["192.0.2.1:7".parse().unwrap()]);

        let changed = tokio::time::timeout(Duration::from_secs(5), names.changed());
        changed.await.expect("every machine knows itself");

        let known = names.addresses();
        assert!(known.len() > 1, "{known:?}");
        assert!(
            known[1..]
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 8)
        );
    }

    #[tokio::test]
    async fn a_name_that_stops_resolving_keeps_what_it_stood_for() {
        let known: Vec<SocketAddr> = vec!["192.0.2.9:8".parse().unwrap()];
        let mut all = [Advertised {
            text: "no such host:8".into(),
            is_number: false,
            addresses: known.clone(),
            lost: false,
        }];

        assert!(!look(&mut all).await);

        assert_eq!(together(&all), known);
    }

    #[tokio::test]
    async fn numbers_alone_ask_nobody_and_never_change() {
        let (mut names, stop) = start(&["[2001:db8::1]:7"]);
        names.hurry();
        let changed = tokio::time::timeout(Duration::from_millis(50), names.changed());
        assert!(changed.await.is_err());
        stop.cancel();
        assert_eq!(names.addresses().len(), 1);
    }
}
