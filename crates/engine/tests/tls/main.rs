//! TLS sessions against each other, in memory.
#![allow(clippy::unwrap_used)]

mod foreign;
mod hostile;
mod impostors;
mod keys;
mod options;
mod parties;
mod sessions;
mod verification;
