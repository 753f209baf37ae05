//! The ledger over real meshes and real files.

use super::*;
use crate::ledger::{self, Draft, Events, MAX_BODY, Place, PublishError, kind};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn draft(body: &'static [u8]) -> Draft {
    Draft::at(kind::LIFE, body, 1_800_000_000_000, true)
}

async fn publish(node: &Node, body: &'static [u8]) -> Place {
    let handle = node.flow.ledger();
    handle.publish_and_wait(draft(body), SOON).await.unwrap()
}

/// What the file would give at the next start; it is read as a copy, since opening mends.
fn places_in(file: &Path) -> Vec<Place> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("ledger");
    std::fs::copy(file, &copy).unwrap();
    let (_keeper, _scribe, found) = ledger::open(&copy);
    found.iter().map(ledger::Event::place).collect()
}

fn places(events: &Events) -> Vec<Place> {
    events.keys().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_hears_what_one_said_that_is_gone_since_and_all_is_on_disk() {
    let mut nodes = start(3).await;
    let first = publish(&nodes[0], b"began").await;
    let of_all = |node: &Node| node.flow.ledger().snapshot();
    until(SOON, "everybody has the first", || {
        nodes.iter().all(|node| of_all(node).contains_key(&first))
    })
    .await;
    nodes[2].mesh.isolate(true);
    let second = publish(&nodes[0], b"lost power").await;
    assert!(second > first);
    until(SOON, "the peer has the second", || {
        of_all(&nodes[1]).contains_key(&second)
    })
    .await;
    stop(vec![nodes.remove(0)]).await;
    assert!(!of_all(&nodes[1]).contains_key(&second));
    nodes[1].mesh.isolate(false);
    until(SOON, "the cut one has the second", || {
        places(&of_all(&nodes[1])) == [first, second]
    })
    .await;
    let stats = nodes[1].flow.ledger_stats();
    assert_eq!((stats.authors, stats.held_back, stats.refused), (1, 0, 0));

    let files: Vec<_> = nodes
        .iter()
        .map(|node| node.dir.path().join("ledger"))
        .collect();
    for file in files {
        until(SOON, "the file holds both", || {
            places_in(&file) == [first, second]
        })
        .await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_or_too_long_is_answered_to_whoever_waits() {
    let world = World::new(1);
    let node = world.start(0, 0).await;
    let handle = node.flow.ledger();
    for _ in 0..60 {
        publish(&node, b"again").await;
    }
    let over = handle.publish_and_wait(draft(b"again"), SOON).await;
    assert_eq!(over, Err(PublishError::HeldBack));
    let long = Draft::at(kind::LIFE, vec![0; MAX_BODY + 1], 0, true);
    let long = handle.publish_and_wait(long, SOON).await;
    assert_eq!(long, Err(PublishError::TooLong { len: MAX_BODY + 1 }));
    until(SOON, "it is counted", || {
        node.flow.ledger_stats().held_back == 1 && handle.snapshot().len() == 60
    })
    .await;
    stop(vec![node]).await;
}
