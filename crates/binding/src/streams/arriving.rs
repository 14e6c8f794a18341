//! Where what arrives goes: straight to who waits for it, else into the backlog.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Stream;
use super::backlog::{Answer, LIMIT, Wish};
use super::reading::{Handed, Reader};
use super::waiter::Waiter;
use crate::buffers;
use crate::engine::Engine;

/// Where the next bytes are to be received.
pub enum Room {
    /// In the shared buffer, so many at most.
    Shared(usize),
    /// In what becomes the reader's bytes, if they are likely to be many; so many at most.
    Draft(usize),
    /// In the reader's own memory.
    Offered(buffers::Room),
}

/// What has been received.
pub enum Arrived<'a, 'py> {
    Lent(&'a [u8]),
    Bytes(Bound<'py, PyBytes>),
    /// So many bytes, in the reader's own memory.
    Filled(usize),
}

impl Stream {
    /// Where what comes next is to be received: straight to the reader, if one waits for it.
    pub fn room(&self, py: Python<'_>) -> Room {
        enum Way {
            Shared(usize),
            Draft(usize),
            Memory(Py<PyAny>),
        }
        let way = self.reader.with(py, |reader| {
            let direct = reader.is_met_directly(py);
            match &reader.wish {
                Some(Wish::Some(most)) if direct => Way::Draft(*most),
                Some(Wish::Fill(_)) if direct => match &reader.memory {
                    Some(memory) => Way::Memory(memory.clone_ref(py)),
                    None => Way::Shared(LIMIT),
                },
                wish => {
                    let most = wish.as_ref().map_or(LIMIT, Wish::most);
                    Way::Shared(most.saturating_sub(reader.backlog.len()).max(1))
                }
            }
        });
        match way {
            Way::Shared(most) => Room::Shared(most),
            Way::Draft(most) => Room::Draft(most),
            Way::Memory(memory) => match buffers::Room::new(memory.bind(py)) {
                Ok(room) if !room.is_empty() => Room::Offered(room),
                // It has no room any more; its reader will find that out.
                _ => Room::Shared(LIMIT),
            },
        }
    }

    /// Bytes have come: the reader goes on if that is what it waits for, else they are kept.
    pub fn deliver(&self, engine: &Bound<'_, Engine>, arrived: Arrived<'_, '_>) -> PyResult<()> {
        let py = engine.py();
        // asyncio's debug mode wants to see each step of a task.
        let direct = !engine.get().is_debugged(py) && !engine.get().ended.get(py);
        let waiter = match arrived {
            Arrived::Filled(n) => self.hand_over(py, Handed::Filled(n)),
            Arrived::Bytes(bytes) => self.hand_over(py, Handed::Bytes(bytes.unbind())),
            Arrived::Lent(bytes) => {
                if self
                    .reader
                    .with(py, |reader| direct && reader.takes(py, bytes.len()))
                {
                    let bytes = PyBytes::new(py, bytes).unbind();
                    self.hand_over(py, Handed::Bytes(bytes))
                } else {
                    self.keep(py, bytes)
                }
            }
        };
        if let Some(waiter) = waiter {
            let woken = if direct {
                Waiter::wake_now(waiter.bind(py))
            } else {
                Waiter::wake(waiter.bind(py))
            };
            self.take_back(py)?;
            woken?;
        }
        self.pause_if_full(py)
    }

    fn hand_over(&self, py: Python<'_>, handed: Handed) -> Option<Py<Waiter>> {
        self.reader.with(py, |reader| {
            debug_assert!(reader.handed.is_none());
            reader.handed = Some(handed);
            reader.waiter(py)
        })
    }

    fn keep(&self, py: Python<'_>, bytes: &[u8]) -> Option<Py<Waiter>> {
        self.reader.with(py, |reader| {
            reader.backlog.push(bytes);
            let wish = reader.wish.as_ref()?;
            let answer = reader.backlog.answer(wish);
            (answer != Answer::NotYet).then(|| reader.waiter(py))?
        })
    }

    /// Whoever was to get it has given up, or comes later: it is kept for whoever reads next.
    pub(super) fn take_back(&self, py: Python<'_>) -> PyResult<()> {
        let (handed, memory) = self.reader.with(py, |reader| {
            let memory = reader.memory.as_ref().map(|memory| memory.clone_ref(py));
            (reader.handed.take(), memory)
        });
        match handed {
            None => {}
            Some(Handed::Bytes(bytes)) => {
                let bytes = bytes.as_bytes(py);
                self.reader.with(py, |it| it.backlog.push_front(bytes));
            }
            Some(Handed::Filled(n)) => {
                if let Some(memory) = memory {
                    let mut room = buffers::Room::new(memory.bind(py))?;
                    let bytes = room.memory();
                    let bytes = &bytes[..n.min(bytes.len())];
                    self.reader.with(py, |it| it.backlog.push_front(bytes));
                }
            }
        }
        Ok(())
    }

    fn pause_if_full(&self, py: Python<'_>) -> PyResult<()> {
        let due = self.reader.with(py, |reader| {
            let most = reader.wish.as_ref().map_or(LIMIT, Wish::most);
            let due = !reader.paused && reader.backlog.len() >= most;
            reader.paused |= due;
            due
        });
        if due {
            self.set_paused(py, true)?;
        }
        Ok(())
    }
}

impl Reader {
    /// A task waits for whatever comes, and would go on at once.
    fn is_met_directly(&self, py: Python<'_>) -> bool {
        let waits = |waiter: &Py<Waiter>| waiter.get().has_its_task(py);
        self.backlog.is_empty() && self.waiter.as_ref().is_some_and(waits)
    }

    /// Whether so many bytes are just what the reader waits for.
    fn takes(&self, py: Python<'_>, count: usize) -> bool {
        let fits = match &self.wish {
            Some(Wish::Some(most)) => count <= *most,
            Some(Wish::Exactly(exactly)) => count == *exactly,
            _ => false,
        };
        fits && self.is_met_directly(py)
    }
}
