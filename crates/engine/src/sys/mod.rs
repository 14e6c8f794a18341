//! The operating system, as the engine needs it.
//!
//! This folder is the only place of the engine with `unsafe`. Each system fulfils one contract,
//! in a file of its own (`epoll.rs` today; a kqueue would be its sibling):
//!
//! - `Selector::new()` makes a readiness queue that is itself a pollable descriptor: it reads as
//!   ready whenever one of its members is ready or its alarm has gone off.
//! - `add`, `modify`, `remove` take a descriptor, an [`Interest`](crate::Interest) and a `u64`
//!   that comes back with its events. Readiness is level-triggered. Errors and hang-ups are
//!   reported whatever the interest; a member with an empty interest must be removed to be silent.
//! - `wait` fills [`Events`], sleeps at most as long as told (rounded up, never down) and returns
//!   early when a signal was handled.
//! - `wake` ends a wait, from any thread; the next one if there is none.
//! - `set_alarm` makes the queue ready at a moment, for those who wait on its descriptor.
//! - `renew` puts an empty queue in the place of one that a forked process shares with its parent.

mod cache;
mod conduit;
#[cfg(target_os = "linux")]
mod epoll;
pub mod net;

#[cfg(target_os = "linux")]
pub use epoll::{Events, Selector};

pub use cache::{prefetch, prefetch_at};
pub use conduit::Conduit;

#[cfg(not(target_os = "linux"))]
compile_error!("mantou runs on Linux; another system needs a Selector beside sys/epoll.rs");
