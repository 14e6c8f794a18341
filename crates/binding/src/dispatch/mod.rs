//! Where engine and Python meet: events come out of the engine, handlers are called.
//!
//! The engine is never borrowed while Python runs. After each call everything may have changed:
//! the socket closed, its slot taken by another, the handlers replaced; so whatever is needed
//! next is asked for again, by token.
//!
//! Each file knows those above it only: calls, endings, beginnings, greetings, delivering, packets,
//! pumping, reading, turn.

mod beginnings;
mod calls;
mod delivering;
mod endings;
mod greetings;
mod packets;
mod pumping;
mod reading;
mod turn;

pub use beginnings::{draining, opened};
pub use endings::{conclude_end, connect_failed, end_without_waiting, finished};
pub use turn::{end_all, events, seal, seal_at_last, turn};
