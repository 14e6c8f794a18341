//! Connections that are only held: what one costs the server shows in its memory.

use std::io;

use crate::exchange::{Exchange, Shape};
use crate::report::{Amount, Report};
use crate::wire::{Target, Wire};

pub struct Hold {
    target: Target,
    held: Vec<Wire>,
    witness: Shape,
}

impl Hold {
    pub fn new(target: Target, witness: Shape) -> Self {
        Self {
            target,
            held: Vec::new(),
            witness,
        }
    }

    /// Opens or closes until there are so many. Servers accept in order: once they answer a
    /// connection that came last, they know of all others.
    pub fn round(&mut self, count: usize) -> io::Result<Report> {
        self.held.truncate(count);
        while self.held.len() < count {
            self.held.push(self.target.connect()?);
        }
        Exchange::new(&self.target, 1, 0, self.witness)?.round(Amount::messages(1))
    }
}
