//! Requests and replies on connections that stay open: echo, and bulk in each direction.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crate::poller::Poller;
use crate::report::{Amount, Report, Round};
use crate::wire::{Got, Inbox, Target, Wire};

/// Every stream is a run of the bytes 0..251: what is lost, doubled or swapped shows.
const PERIOD: usize = 251;
const WINDOW: usize = 512 * 1024;

/// What a message is made of, and how many are on their way at once on each connection.
#[derive(Clone, Copy)]
pub struct Shape {
    pub request: usize,
    pub reply: usize,
    pub depth: usize,
    /// The next messages start when all of the last are back, not as each comes back.
    pub batch: bool,
    /// Replies are the request's own bytes; otherwise each starts at the pattern's beginning.
    pub echo: bool,
}

struct Peer {
    wire: Wire,
    /// In bytes since the beginning of the connection.
    due: usize,
    sent: usize,
    received: usize,
    /// When the messages that are on their way began.
    flying: VecDeque<Instant>,
    waits_for_output: bool,
}

pub struct Exchange {
    shape: Shape,
    poller: Poller,
    peers: Vec<Peer>,
    /// Connected and never used.
    #[allow(dead_code)]
    idle: Vec<Wire>,
    pattern: Vec<u8>,
    inbox: Inbox,
}

impl Exchange {
    pub fn new(target: &Target, connections: usize, idle: usize, shape: Shape) -> io::Result<Self> {
        let poller = Poller::new()?;
        let idle = (0..idle)
            .map(|_| target.connect())
            .collect::<io::Result<_>>()?;
        let mut peers = Vec::with_capacity(connections);
        for key in 0..connections {
            let wire = target.connect()?;
            poller.add(wire.fd(), key, false)?;
            peers.push(Peer {
                wire,
                due: 0,
                sent: 0,
                received: 0,
                flying: VecDeque::with_capacity(shape.depth),
                waits_for_output: false,
            });
        }
        Ok(Self {
            shape,
            poller,
            peers,
            idle,
            pattern: (0..=250).cycle().take(PERIOD + WINDOW).collect(),
            inbox: Inbox::default(),
        })
    }

    pub fn round(&mut self, amount: Amount) -> io::Result<Report> {
        let mut round = Round::begin(amount);
        for key in 0..self.peers.len() {
            self.refill(key, &mut round)?;
        }
        while !round.complete() {
            let ready = self.poller.wait()?.to_vec();
            round.tick();
            for event in ready {
                if event.writable {
                    self.push(event.key)?;
                }
                if event.readable {
                    self.pull(event.key, &mut round)?;
                }
            }
        }
        Ok(round.end())
    }

    /// Starts as many messages as there is room for.
    fn refill(&mut self, key: usize, round: &mut Round) -> io::Result<()> {
        let peer = &mut self.peers[key];
        if self.shape.batch && !peer.flying.is_empty() {
            return Ok(());
        }
        let before = peer.due;
        let now = Instant::now();
        while peer.flying.len() < self.shape.depth && round.start() {
            peer.flying.push_back(now);
            peer.due += self.shape.request;
        }
        if peer.due == before {
            return Ok(());
        }
        self.push(key)
    }

    fn push(&mut self, key: usize) -> io::Result<()> {
        let peer = &mut self.peers[key];
        let mut flushed = peer.wire.flush()?;
        while flushed && peer.sent < peer.due {
            let start = position(key, peer.sent);
            let size = (peer.due - peer.sent).min(WINDOW);
            let taken = peer.wire.send(&self.pattern[start..start + size])?;
            peer.sent += taken;
            flushed = taken == size && peer.wire.flush()?;
        }
        let waits = !flushed || peer.sent < peer.due;
        if waits != peer.waits_for_output {
            peer.waits_for_output = waits;
            self.poller.modify(peer.wire.fd(), key, waits)?;
        }
        Ok(())
    }

    fn pull(&mut self, key: usize, round: &mut Round) -> io::Result<()> {
        let peer = &mut self.peers[key];
        let bytes = match peer.wire.receive(&mut self.inbox)? {
            Got::Nothing => return Ok(()),
            Got::End => return Err(io::Error::other("the server closed a connection")),
            Got::Bytes(bytes) => bytes,
        };
        let reply = self.shape.reply;
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = peer.received % reply;
            let size = rest.len().min(reply - inside).min(WINDOW);
            let start = if self.shape.echo {
                position(key, peer.received)
            } else {
                inside % PERIOD
            };
            if peer.flying.is_empty() || self.shape.echo && peer.received + size > peer.sent {
                return Err(io::Error::other(
                    "the server sent more than it was asked for",
                ));
            }
            if rest[..size] != self.pattern[start..start + size] {
                return Err(io::Error::other("the reply differs"));
            }
            peer.received += size;
            rest = &rest[size..];
            if peer.received.is_multiple_of(reply)
                && let Some(since) = peer.flying.pop_front()
            {
                round.finish(since);
            }
        }
        self.refill(key, round)
    }
}

/// Where the stream of a connection is in the pattern: each starts somewhere else.
fn position(key: usize, offset: usize) -> usize {
    (key * 31 + offset) % PERIOD
}
