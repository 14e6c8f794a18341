//! Fuzz targets: each takes any bytes, and panics where the engine breaks a promise.
//!
//! `make fuzz` runs one after the other with inputs that a [`Mutator`] makes of what is kept in
//! `corpus/`; the tests do so for a moment. A target is libFuzzer's kind of function, too.
// What a target finds is told by a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

use std::path::Path;
use std::{fs, io};

mod mutator;
mod targets {
    pub mod engine;
    pub mod framing;
    pub mod names;
    pub mod pem;
    pub mod proxy;
    pub mod records;
    pub mod tls;
}

pub use mutator::Mutator;
use targets::{engine, framing, names, pem, proxy, records, tls};

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// What is fuzzed, and by which name.
pub const TARGETS: [(&str, Target); 8] = [
    ("engine", engine::operations),
    ("framing", framing::packets),
    ("names", names::names),
    ("pem", pem::texts),
    ("proxy", proxy::headers),
    ("records", records::records),
    ("tls_bytes", tls::bytes),
    ("tls_handshakes", tls::handshakes),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    let named = TARGETS.iter().find(|(known, _)| *known == name);
    named.map(|(_, run)| *run)
}

/// The inputs that are kept for the target, and none at all.
pub fn kept(name: &str) -> io::Result<Vec<Vec<u8>>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut inputs = vec![Vec::new()];
    for entry in fs::read_dir(corpus.join(name))? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort();
    Ok(inputs)
}

/// Takes numbers from the front of the input: what a script of operations is made of.
struct Script<'d>(&'d [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
