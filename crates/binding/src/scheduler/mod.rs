//! The scheduler: what asyncio's `BaseEventLoop` does for callbacks, timers and descriptors, native.
//!
//! `Scheduler` comes before asyncio's classes in the loop's bases. What it has, asyncio's own code
//! uses without knowing: `_closed`, `_stopping`, `_debug`, `_thread_id` are kept here. What is not
//! hot (running and closing a loop, signals, executors, subprocesses, `sock_*`) stays asyncio's.
//!
//! Each file knows those above it only: clock, handle, timers, state, descriptors, running, turn,
//! calls, queue, members. But a handle knows the state that it is part of.

mod calls;
mod clock;
mod descriptors;
mod handle;
mod members;
mod queue;
mod running;
mod state;
mod timers;
mod turn;

pub use calls::install;
pub use handle::{Handle, TimerHandle};
pub use queue::ReadyQueue;
pub use state::Scheduler;
