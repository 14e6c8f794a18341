//! One message in, one out to every connection.

use std::io;
use std::time::Instant;

use crate::poller::Poller;
use crate::report::{Amount, Report, Round};
use crate::wire::{Got, Inbox, Target, Wire};

pub struct FanOut {
    poller: Poller,
    peers: Vec<(Wire, usize)>,
    message: Vec<u8>,
    inbox: Inbox,
}

impl FanOut {
    pub fn new(target: &Target, connections: usize, size: usize) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut peers = Vec::with_capacity(connections);
        for key in 0..connections {
            let wire = target.connect()?;
            poller.add(wire.fd(), key, false)?;
            peers.push((wire, 0));
        }
        Ok(Self {
            poller,
            peers,
            message: (0..=250).cycle().take(size).collect(),
            inbox: Inbox::default(),
        })
    }

    /// Counts deliveries; the latency of each is since the one message was sent.
    pub fn round(&mut self, amount: Amount) -> io::Result<Report> {
        let mut round = Round::begin(amount);
        // A broadcast is whole: it may go over the amount.
        while round.start() {
            for _ in 1..self.peers.len() {
                round.owe();
            }
            let since = Instant::now();
            for (_, received) in &mut self.peers {
                *received = 0;
            }
            if self.peers[0].0.send(&self.message)? < self.message.len() {
                return Err(io::Error::other("a message did not fit"));
            }
            while !round.complete() {
                for event in self.poller.wait()?.to_vec() {
                    self.deliver(event.key, since, &mut round)?;
                }
            }
            round.tick();
        }
        Ok(round.end())
    }

    fn deliver(&mut self, key: usize, since: Instant, round: &mut Round) -> io::Result<()> {
        let (wire, received) = &mut self.peers[key];
        match wire.receive(&mut self.inbox)? {
            Got::Nothing => {}
            Got::End => return Err(io::Error::other("the server closed a connection")),
            Got::Bytes(bytes) => {
                let end = *received + bytes.len();
                if self.message.get(*received..end) != Some(bytes) {
                    return Err(io::Error::other("the message differs"));
                }
                *received = end;
                if end == self.message.len() {
                    round.finish(since);
                }
            }
        }
        Ok(())
    }
}
