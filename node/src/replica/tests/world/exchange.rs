//! What happens in the model: rows, digests, requests and their answers.

use std::time::Duration;

use rand::Rng as _;

use super::{Happening, World, name};
use crate::replica::{Ask, Request};

impl World {
    pub(super) fn happen(&mut self, what: Happening) {
        let now = self.now();
        match what {
            Happening::Tick => {
                self.after(Duration::from_secs(1), Happening::Tick);
                (0..self.nodes.len())
                    .filter(|i| self.nodes[*i].up)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|i| self.tick(i));
            }
            Happening::Link { a, b } => self.link(a, b),
            Happening::Live { to, log, seq } => {
                let node = &mut self.nodes[to];
                if node.up && !node.cut {
                    node.replica.handle_row(log, seq, 1, now);
                    node.held.entry(log).or_default().insert(seq..=seq);
                    node.replica.handle_fresh(log, seq, now);
                }
            }
            Happening::Digest {
                from,
                to,
                life,
                index,
            } => {
                if self.reaches(from, to) && self.nodes[to].epoch == life {
                    let entries = self.digests[index].clone();
                    self.nodes[to]
                        .replica
                        .handle_digest(name(from), entries, now);
                }
            }
            Happening::Serve { from, to, id, life } => {
                if self.reaches(from, to) && (self.nodes[from].epoch, self.nodes[to].epoch) == life
                {
                    let delay = self.delay();
                    self.after(delay, Happening::Answer { from, to, id, life });
                }
            }
            Happening::Answer { from, to, id, life } => {
                if self.reaches(from, to) && (self.nodes[from].epoch, self.nodes[to].epoch) == life
                {
                    self.answer(from, to, id);
                }
            }
        }
    }

    fn tick(&mut self, index: usize) {
        let now = self.now();
        let count = self.nodes.len();
        let node = &mut self.nodes[index];
        let (log, seq) = (node.running, node.next);
        node.next += 1;
        node.held.entry(log).or_default().insert(seq..=seq);
        node.replica.handle_row(log, seq, 1, now);
        node.replica.handle_fresh(log, seq, now);
        let open = !node.cut;
        for to in (0..count).filter(|to| *to != index) {
            if open && self.nodes[index].connected.contains(&to) {
                for _ in 0..self.copies() {
                    let delay = self.delay();
                    self.after(delay, Happening::Live { to, log, seq });
                }
            }
        }
    }

    pub(super) fn drain(&mut self, index: usize) {
        let now = self.now();
        while let Some((peer, entries)) = self.nodes[index].replica.poll_digest(now) {
            let to = peer.0[0] as usize - 1;
            self.note(format!("digest {index} to {to}: {entries:?}"));
            self.digests.push(entries);
            for _ in 0..self.copies() {
                let delay = self.delay();
                let what = Happening::Digest {
                    from: index,
                    to,
                    life: self.nodes[to].epoch,
                    index: self.digests.len() - 1,
                };
                self.after(delay, what);
            }
        }
        while let Some(id) = self.nodes[index].replica.poll_given_up(now) {
            self.requests_open.remove(&(index, id));
            self.nodes[index].asked.remove(&id);
        }
        while let Some(request) = self.nodes[index].replica.poll_request(now) {
            self.asked(index, request);
        }
    }

    /// A request leaves: nothing in it may be held or on its way already.
    fn asked(&mut self, index: usize, request: Request) {
        self.requests += 1;
        self.note(format!("{index} asks {request:?}"));
        let to = request.peer.0[0] as usize - 1;
        let node = &mut self.nodes[index];
        assert!(node.connected.contains(&to), "asked a peer that is away");
        if let Ask::Rows { log, rows } = &request.ask {
            let held = node.held.get(log).cloned().unwrap_or_default();
            assert!(held.intersect(rows).is_empty(), "asked for what is held");
            let gone = node.gone.get(log).cloned().unwrap_or_default();
            assert!(
                gone.intersect(rows).is_empty(),
                "asked for what was evicted"
            );
            for (other, taken) in node.asked.values() {
                assert!(
                    other != log || taken.intersect(rows).is_empty(),
                    "asked twice at a time"
                );
            }
            node.asked.insert(request.id, (*log, rows.clone()));
        }
        let life = (self.nodes[index].epoch, self.nodes[to].epoch);
        let id = request.id;
        self.requests_open.insert((index, id), request);
        let delay = self.delay();
        self.after(
            delay,
            Happening::Serve {
                from: index,
                to,
                id,
                life,
            },
        );
    }

    fn answer(&mut self, from: usize, to: usize, id: u64) {
        let now = self.now();
        let Some(request) = self.requests_open.remove(&(from, id)) else {
            return;
        };
        self.nodes[from].asked.remove(&id);
        match request.ask {
            Ask::Held { origins } => {
                for origin in origins {
                    let logs = self.nodes[to].replica.held(&origin);
                    self.nodes[from]
                        .replica
                        .handle_held(id, name(to), origin, logs, now);
                }
            }
            Ask::Rows { log, rows } => {
                let has = self.nodes[to]
                    .held
                    .get(&log)
                    .cloned()
                    .unwrap_or_default()
                    .intersect(&rows);
                // Some streams break half way: the newest came.
                let broken = self.loss > 0.0 && self.rng.random_bool(0.2);
                for range in has.ranges().rev().take(if broken { 1 } else { usize::MAX }) {
                    let (first, last) = range.into_inner();
                    self.nodes[from]
                        .held
                        .entry(log)
                        .or_default()
                        .insert(first..=last);
                    self.nodes[from].replica.handle_stored(log, first, last);
                    self.nodes[to]
                        .replica
                        .handle_peer_has(name(from), log, first, last);
                }
                if broken {
                    self.nodes[from].replica.handle_failed(id, now);
                    return;
                }
            }
            Ask::Seals { .. } => {}
        }
        let now = self.now();
        self.nodes[from].replica.handle_done(id, now);
    }
}
