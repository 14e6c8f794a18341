//! A connection with `await`: the native half of `mantou.Stream`. What is awaited for each message is
//! here; what is called once or twice in a stream's life is its subclass in
//! `python/mantou/_streams.py`.
//!
//! `members` is what users await and `asyncio` what its reader and writer ask for: `operation` makes
//! a coroutine of it, which goes on in `reading` or `writing` and waits for a `waiter`. What the
//! socket tells comes in by `arriving` and `life`.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::handlers::Handlers;
use crate::socket::Socket;

mod arriving;
mod asyncio;
mod backlog;
mod ends;
mod life;
mod members;
mod operation;
mod reading;
mod waiter;
mod writing;

pub use arriving::{Arrived, Room};
use ends::End;
pub use operation::Operation;
use reading::Reader;
use writing::Writer;

/// Puts on classes what goes past PyO3.
pub fn install(py: Python<'_>) -> PyResult<()> {
    operation::install(py);
    waiter::install(py)
}

/// So much may wait to be sent when `send()` returns.
const HIGH_WATER: usize = 64 * 1024;

/// Which side of a stream an operation is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Reading,
    Writing,
}

/// The native half of `mantou.Stream`.
#[pyclass(frozen, subclass, weakref, module = "mantou._core")]
pub struct Stream {
    socket: Py<Socket>,
    event_loop: Py<PyAny>,
    reader: Guarded<Reader>,
    writer: Guarded<Writer>,
    end: Guarded<End>,
    /// Operations that nobody awaits any more, to be used again.
    spare_read: Guarded<Option<Py<Operation>>>,
    spare_write: Guarded<Option<Py<Operation>>>,
}

#[pymethods]
impl Stream {
    /// Takes the place of handlers of a socket.
    #[new]
    fn new(socket: Py<Socket>, event_loop: Py<PyAny>) -> Self {
        Self {
            socket,
            event_loop,
            reader: Guarded::default(),
            writer: Guarded::default(),
            end: Guarded::default(),
            spare_read: Guarded::default(),
            spare_write: Guarded::default(),
        }
    }

    /// Has the socket tell this stream what happens.
    fn _attach(this: &Bound<'_, Self>) -> PyResult<()> {
        let handlers = Handlers::of_stream(this.clone().into_any().unbind(), this.py())?;
        this.get().socket.get().set_handlers(this.py(), handlers);
        Ok(())
    }

    /// The socket beneath: its addresses, TLS members, timeouts. Its handlers are the stream's.
    ///
    /// Not in Bun.
    #[getter]
    fn socket(&self, py: Python<'_>) -> Py<Socket> {
        self.socket.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        visit.call(&self.event_loop)?;
        self.reader.traverse(&visit, Reader::traverse)?;
        self.writer.traverse(&visit, Writer::traverse)?;
        for spare in [&self.spare_read, &self.spare_write] {
            spare.traverse(&visit, |spare, visit| visit.call(spare))?;
        }
        self.end.traverse(&visit, |end, visit| match end {
            End::Broken(error) => visit.call(error),
            _ => Ok(()),
        })
    }

    fn __clear__(&self) {
        drop(self.reader.take());
        drop(self.writer.take());
        drop(self.spare_read.take());
        drop(self.spare_write.take());
        drop(self.end.take());
    }
}
