//! Event-driven sockets: readiness, the socket state machine, buffers, timers.
//!
//! The engine knows nothing of Python and never calls back. Whoever drives it polls, asks what
//! became of a token, and acts on the answer; between two calls nothing is borrowed.

mod buffer;
mod connect;
mod engine;
mod error;
mod file;
mod gate;
mod greeting;
mod listener;
#[cfg(test)]
mod models;
mod packet;
mod poller;
pub mod proxy;
mod slots;
mod state;
mod stream;
mod sys;
mod timers;
pub mod tls;
mod token;

pub use buffer::{Keep, Owner, Piece};
pub use connect::Attempt;
pub use engine::{Engine, Event, Facts, Farewell, Notice, Read, Traffic, Unpipable};
pub use error::{CloseReason, WriteAllError};
pub use file::{FilePart, FileProgress};
pub use gate::{Limit, Limits};
pub use greeting::{Network, ProxyError, ProxyPolicy};
pub use listener::{Accepted, Acceptor};
pub use packet::{Cut, Framing, Width};
pub use poller::{Interest, Poller, Ready, Target};
pub use state::ReadyState;
pub use stream::{Driver, Endpoints, NextPacket, Outgoing, Pumped, Settings, Waiting, Written};
pub use sys::{Events, prefetch_at};
pub use token::Token;
