//! Who reads from a stream, and what the reader gets.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use super::backlog::{Answer, Backlog, Form, LIMIT, Wish};
use super::ends::{End, busy, raised};
use super::operation::AtEnd;
use super::waiter::Waiter;
use super::{Side, Stream};
use crate::buffers;

/// What a reader gets that is about to go on, and what nobody else has.
pub enum Handed {
    Bytes(Py<PyBytes>),
    Filled(usize),
}

/// The reading side of a stream.
#[derive(Default)]
pub struct Reader {
    pub backlog: Backlog,
    /// Of the reader who waits, and its own memory, if that is to be filled.
    pub wish: Option<Wish>,
    pub memory: Option<Py<PyAny>>,
    pub handed: Option<Handed>,
    /// The peer sends no more.
    pub ended: bool,
    /// Enough is there for now.
    pub paused: bool,
    /// A program wants nothing more to come: asyncio's `pause_reading()`.
    pub held: bool,
    pub waiter: Option<Py<Waiter>>,
}

impl Reader {
    pub fn is_busy(&self) -> bool {
        self.wish.is_some()
    }

    pub fn is_at_end(&self, is_over: bool) -> bool {
        (self.ended || is_over) && self.backlog.is_empty() && self.handed.is_none()
    }

    pub fn waiter(&self, py: Python<'_>) -> Option<Py<Waiter>> {
        self.wish.as_ref()?;
        self.waiter.as_ref().map(|waiter| waiter.clone_ref(py))
    }

    pub fn bytes(&self) -> &[u8] {
        self.backlog.bytes()
    }

    pub fn consume(&mut self, count: usize) {
        self.backlog.consume(count.min(self.backlog.len()));
    }

    pub fn discard(&mut self) {
        self.backlog = Backlog::default();
    }

    /// There is room again; whether reading goes on for that.
    pub fn resume(&mut self) -> bool {
        std::mem::take(&mut self.paused) && !self.held
    }

    pub fn is_stopped(&self) -> bool {
        self.paused || self.held
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.memory)?;
        visit.call(&self.waiter)
    }
}

impl Stream {
    pub(super) fn set_paused(&self, py: Python<'_>, paused: bool) -> PyResult<()> {
        let socket = self.socket.get();
        socket.with(py, |core, token| core.set_paused(token, paused))
    }

    /// Looks whether what is wished for is there. If not, the wish is kept until it is, or dropped
    /// by `stop_reading()`.
    pub(super) fn read(
        &self,
        py: Python<'_>,
        wish: Wish,
        at_end: AtEnd,
    ) -> PyResult<Option<Py<PyAny>>> {
        // Whoever reads beside its loop's thread is told so.
        self.socket.get().with(py, |_, _| ())?;
        if self.is_busy(py, Side::Reading) {
            return Err(busy(py, Side::Reading));
        }
        self.reader.with(py, |reader| {
            reader.backlog.search_anew();
            reader.wish = Some(wish);
        });
        self.read_on(py, at_end)
    }

    /// The same, for what is to be written to the reader's own memory.
    pub(super) fn read_into(
        &self,
        py: Python<'_>,
        memory: Py<PyAny>,
        size: usize,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !self.is_busy(py, Side::Reading) {
            let before = self.reader.with(py, |reader| reader.memory.replace(memory));
            drop(before);
        }
        self.read(py, Wish::Fill(size), AtEnd::Raises)
    }

    /// Looks again.
    pub(super) fn read_on(&self, py: Python<'_>, at_end: AtEnd) -> PyResult<Option<Py<PyAny>>> {
        let result = self.answer(py, at_end);
        if !matches!(result, Ok(None)) {
            self.stop_reading(py);
        }
        result
    }

    fn answer(&self, py: Python<'_>, at_end: AtEnd) -> PyResult<Option<Py<PyAny>>> {
        match self.reader.with(py, |reader| reader.handed.take()) {
            Some(Handed::Bytes(bytes)) => return Ok(Some(bytes.into_any())),
            Some(Handed::Filled(n)) => return Ok(Some(number(py, n))),
            None => {}
        }
        let (answer, fills) = self.reader.with(py, |reader| {
            let answer = match &reader.wish {
                Some(wish) => reader.backlog.answer(wish),
                None => Answer::NotYet,
            };
            let memory = reader.memory.as_ref();
            (answer, memory.map(|memory| memory.clone_ref(py)))
        });
        match answer {
            Answer::Take { given, gone } => {
                let result = match fills {
                    Some(memory) => self.fill(&memory.into_bound(py), given)?,
                    // Making bytes runs no Python code.
                    None => self.reader.with(py, |reader| {
                        PyBytes::new(py, &reader.backlog.bytes()[..given])
                            .into_any()
                            .unbind()
                    }),
                };
                self.reader.with(py, |reader| reader.backlog.consume(gone));
                self.resume_if_emptied(py)?;
                Ok(Some(result))
            }
            Answer::TooLong => {
                let most = self.reader.with(py, |reader| match &reader.wish {
                    Some(Wish::Until(until)) => until.most,
                    _ => 0,
                });
                Err(raised(py, "DelimiterNotFound", (most,)))
            }
            Answer::NotYet => self.at_end(py, at_end),
        }
    }

    fn fill(&self, memory: &Bound<'_, PyAny>, count: usize) -> PyResult<Py<PyAny>> {
        let py = memory.py();
        let mut room = buffers::Room::new(memory)?;
        let room = room.memory();
        if room.len() < count {
            return Err(PyValueError::new_err("buffer has changed its size"));
        }
        self.reader.with(py, |reader| {
            room[..count].copy_from_slice(&reader.backlog.bytes()[..count]);
        });
        Ok(number(py, count))
    }

    /// Nothing more may come.
    fn at_end(&self, py: Python<'_>, at_end: AtEnd) -> PyResult<Option<Py<PyAny>>> {
        let is_ours = self.end.with(py, |end| matches!(end, End::Closed));
        let error = self.closed(py, Side::Reading);
        if let Some(error) = error.filter(|_| !(is_ours && at_end == AtEnd::Empty)) {
            return Err(error);
        }
        let wish = self.reader.with(py, |reader| {
            (reader.ended || self.end.with(py, |end| !matches!(end, End::Open)))
                .then(|| reader.wish.clone())
                .flatten()
        });
        let Some(wish) = wish else {
            self.resume_if_wanting(py)?;
            return Ok(None);
        };
        let longest_line = match &wish {
            Wish::Until(until) if until.form == Form::Line => Some(until.most),
            _ => None,
        };
        let len = self.reader.with(py, |reader| reader.backlog.len());
        if let Some(most) = longest_line.filter(|most| len > *most) {
            return Err(raised(py, "DelimiterNotFound", (most,)));
        }
        let is_line = longest_line.is_some();
        let rest = self.reader.with(py, |reader| reader.backlog.take());
        let rest = PyBytes::new(py, &rest);
        match wish {
            Wish::All => Ok(Some(rest.into_any().unbind())),
            _ if is_line && !rest.as_bytes().is_empty() => Ok(Some(rest.into_any().unbind())),
            Wish::Exactly(_) | Wish::Until(_) if !is_line => {
                Err(raised(py, "IncompleteRead", (rest,)))
            }
            _ => at_end.conclude(py),
        }
    }

    /// Nobody waits for what is read any more.
    pub(super) fn give_up_reading(&self, py: Python<'_>) {
        if let Err(error) = self.take_back(py) {
            error.write_unraisable(py, None);
        }
        self.stop_reading(py);
    }

    /// The reader has what it wanted, or never will.
    fn stop_reading(&self, py: Python<'_>) {
        let before = self
            .reader
            .with(py, |reader| (reader.wish.take(), reader.memory.take()));
        drop(before);
    }

    /// What the reader's task is to wait for.
    pub(super) fn reading_waiter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Waiter>> {
        let known = self.reader.with(py, |reader| {
            reader.waiter.as_ref().map(|waiter| waiter.clone_ref(py))
        });
        let (waiter, is_new) = self.fresh(py, known)?;
        if is_new {
            let given = waiter.clone().unbind();
            let before = self.reader.with(py, |reader| reader.waiter.replace(given));
            drop(before);
        }
        Ok(waiter)
    }

    /// A waiter that nobody waits for yet, and whether it is a new one.
    pub(super) fn fresh<'py>(
        &self,
        py: Python<'py>,
        known: Option<Py<Waiter>>,
    ) -> PyResult<(Bound<'py, Waiter>, bool)> {
        if let Some(known) = known
            && known.get().renew(py)
        {
            return Ok((known.into_bound(py), false));
        }
        let made = Bound::new(py, Waiter::new(self.event_loop.clone_ref(py)))?;
        Ok((made, true))
    }

    /// Reading goes on where little is left.
    pub(super) fn resume_if_emptied(&self, py: Python<'_>) -> PyResult<()> {
        self.resume_if(py, |reader| reader.backlog.len() <= LIMIT / 2)
    }

    /// Its reader needs more than is usually kept.
    fn resume_if_wanting(&self, py: Python<'_>) -> PyResult<()> {
        self.resume_if(py, |reader| {
            let most = reader.wish.as_ref().map_or(0, Wish::most);
            reader.backlog.len() < most
        })
    }

    fn resume_if(&self, py: Python<'_>, is_due: impl FnOnce(&Reader) -> bool) -> PyResult<()> {
        let due = self
            .reader
            .with(py, |reader| is_due(reader) && reader.resume());
        if due {
            self.set_paused(py, false)?;
        }
        Ok(())
    }
}

/// How much room there is in a reader's own memory.
pub fn room_in(buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
    let Ok(mut room) = buffers::Room::new(buffer) else {
        let class = buffer.get_type();
        return Err(not_writable(&class.name()?.to_string_lossy()));
    };
    match room.memory().len() {
        0 => Err(PyValueError::new_err("buffer has no room")),
        size => Ok(size),
    }
}

fn not_writable(class: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "buffer must be a writable, C-contiguous buffer, not {class}"
    ))
}

fn number(py: Python<'_>, value: usize) -> Py<PyAny> {
    PyInt::new(py, value).into_any().unbind()
}
