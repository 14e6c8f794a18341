//! Connections that come and go: connect, one echo, close; over TLS full or resumed handshakes.

use std::io;
use std::time::Instant;

use crate::poller::{Event, Poller};
use crate::report::{Amount, Report, Round};
use crate::wire::{Got, Inbox, Target, Wire};

struct Visit {
    wire: Wire,
    since: Instant,
    connected: bool,
    received: usize,
}

pub struct Churn {
    target: Target,
    poller: Poller,
    slots: Vec<Option<Visit>>,
    message: Vec<u8>,
    inbox: Inbox,
}

impl Churn {
    pub fn new(target: Target, connections: usize, size: usize) -> io::Result<Self> {
        Ok(Self {
            target,
            poller: Poller::new()?,
            slots: (0..connections).map(|_| None).collect(),
            message: (0..=250).cycle().take(size).collect(),
            inbox: Inbox::default(),
        })
    }

    pub fn round(&mut self, amount: Amount) -> io::Result<Report> {
        let mut round = Round::begin(amount);
        for key in 0..self.slots.len() {
            self.open(key, &mut round)?;
        }
        while !round.complete() {
            let ready = self.poller.wait()?.to_vec();
            round.tick();
            for event in ready {
                self.progress(event, &mut round)?;
            }
        }
        Ok(round.end())
    }

    fn open(&mut self, key: usize, round: &mut Round) -> io::Result<()> {
        self.slots[key] = None;
        if !round.start() {
            return Ok(());
        }
        let since = Instant::now();
        let wire = self.target.begin()?;
        self.poller.add(wire.fd(), key, true)?;
        self.slots[key] = Some(Visit {
            wire,
            since,
            connected: false,
            received: 0,
        });
        Ok(())
    }

    fn progress(&mut self, event: Event, round: &mut Round) -> io::Result<()> {
        let Some(visit) = &mut self.slots[event.key] else {
            return Ok(());
        };
        if event.writable && !visit.connected {
            visit.connected = true;
            self.poller.modify(visit.wire.fd(), event.key, false)?;
            // With TLS it is kept until the handshake is done. It fits: nothing was sent before.
            if visit.wire.send(&self.message)? < self.message.len() {
                return Err(io::Error::other("a first message did not fit"));
            }
        }
        if !event.readable {
            return Ok(());
        }
        match visit.wire.receive(&mut self.inbox)? {
            Got::Nothing => {}
            Got::Bytes(bytes) => {
                let end = visit.received + bytes.len();
                if self.message.get(visit.received..end) != Some(bytes) {
                    return Err(io::Error::other("the echo differs"));
                }
                visit.received = end;
                if end == self.message.len() {
                    visit.wire.finish()?;
                }
            }
            Got::End if visit.received < self.message.len() => {
                return Err(io::Error::other("the server closed a connection early"));
            }
            Got::End => {
                round.report.resumed += u64::from(visit.wire.resumed());
                round.finish(visit.since);
                self.open(event.key, round)?;
            }
        }
        Ok(())
    }
}
