//! Who sends on a stream, and how much of it was accepted.

use mantou_engine::{self as core, Piece, Written};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::ends::{End, busy};
use super::waiter::Waiter;
use super::{HIGH_WATER, Side, Stream};
use crate::buffers::Outgoing;

/// The writing side of a stream.
pub struct Writer {
    /// So little, and so much, may wait to be sent when nobody has to wait for it.
    pub low: usize,
    pub high: usize,
    /// Somebody waits to send more, or for what was sent to leave.
    busy: bool,
    /// So much of what it sends was accepted.
    sent: usize,
    /// All of it was.
    whole: bool,
    /// Our side is finished.
    pub ended: bool,
    waiter: Option<Py<Waiter>>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            low: HIGH_WATER,
            high: HIGH_WATER,
            busy: false,
            sent: 0,
            whole: false,
            ended: false,
            waiter: None,
        }
    }
}

impl Writer {
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    pub fn waiter(&self, py: Python<'_>) -> Option<Py<Waiter>> {
        let waiter = self.waiter.as_ref().filter(|_| self.busy);
        waiter.map(|waiter| waiter.clone_ref(py))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)
    }
}

#[pymethods]
impl Stream {
    /// Has the sender's place taken, for what is sent in another way, until `_vacate()`.
    fn _occupy(&self, py: Python<'_>) -> PyResult<()> {
        self.begin_sending(py)?;
        self.writer.with(py, |writer| writer.busy = true);
        Ok(())
    }

    fn _vacate(&self, py: Python<'_>) {
        self.stop_sending(py);
    }
}

impl Stream {
    /// Begins to send; whether that is all there is to do. If not, it goes on with `send_on()`, or
    /// is dropped by `stop_sending()`.
    pub(super) fn begin_send(&self, data: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.begin_sending(data.py())?;
        self.send_on(data)
    }

    /// Takes everything, whatever has to wait: for `StreamWriter`, whose users wait in `drain()`.
    pub(super) fn write(&self, py: Python<'_>, buffers: &[Bound<'_, PyAny>]) -> PyResult<()> {
        if self.end.with(py, |end| !matches!(end, End::Open)) {
            return Ok(());
        }
        if self.writer.with(py, |writer| writer.ended) {
            let text = "Cannot call write() after write_eof()";
            return Err(PyRuntimeError::new_err(text));
        }
        let outgoing: PyResult<Vec<_>> = buffers.iter().map(Outgoing::new).collect();
        let outgoing = outgoing?;
        let pieces: PyResult<Vec<_>> = outgoing.iter().map(Outgoing::as_piece).collect();
        let pieces = pieces?;
        let transmit = |core: &mut core::Engine, token| core.transmit(token, &pieces);
        self.socket.get().with(py, transmit).map(drop)
    }

    /// Begins to wait for what was written to leave: also behind an end of our side.
    pub(super) fn begin_drain(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_busy(py, Side::Writing) {
            return Err(busy(py, Side::Writing));
        }
        self.drain_on(py)
    }

    /// What we closed ourselves is nothing to wait for.
    pub(super) fn drain_on(&self, py: Python<'_>) -> PyResult<bool> {
        let is_open = self.end.with(py, |end| matches!(end, End::Open));
        let result = match self.error(py) {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None if is_open => self.waiting(py).and_then(|it| self.is_sent(py, it)),
            None => Ok(true),
        };
        if !matches!(result, Ok(false)) {
            self.stop_sending(py);
        }
        result
    }

    fn waiting(&self, py: Python<'_>) -> PyResult<usize> {
        let waiting = |core: &mut core::Engine, token| core.waiting(token);
        self.socket.get().with(py, waiting)
    }

    pub(super) fn begin_send_all(&self, py: Python<'_>, buffers: &[Py<PyAny>]) -> PyResult<bool> {
        self.begin_sending(py)?;
        let bound: Vec<_> = buffers.iter().map(|buffer| buffer.bind(py)).collect();
        let outgoing: PyResult<Vec<_>> = bound.iter().map(|it| Outgoing::new(it)).collect();
        let outgoing = outgoing?;
        let pieces: PyResult<Vec<_>> = outgoing.iter().map(Outgoing::as_piece).collect();
        let waiting = self.transmit(py, &pieces?)?;
        self.is_sent(py, waiting)
    }

    fn begin_sending(&self, py: Python<'_>) -> PyResult<()> {
        self.check_free(py, Side::Writing)?;
        self.writer.with(py, |writer| {
            writer.sent = 0;
            writer.whole = false;
        });
        Ok(())
    }

    /// Sends what is left of the data. The kernel takes its share of much before the rest is
    /// accepted: what is cancelled meanwhile is not sent.
    pub(super) fn send_on(&self, data: &Bound<'_, PyAny>) -> PyResult<bool> {
        let result = self.send_rest(data);
        if result.is_err() {
            self.stop_sending(data.py());
        }
        result
    }

    fn send_rest(&self, data: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = data.py();
        if let Some(error) = self.closed(py, Side::Writing) {
            return Err(error);
        }
        if self.writer.with(py, |writer| writer.whole) {
            let waiting = self.waiting(py)?;
            return self.is_sent(py, waiting);
        }
        let outgoing = Outgoing::new(data)?;
        let bytes = outgoing.as_slice()?;
        let sent = self.writer.with(py, |writer| writer.sent);
        let Some(rest) = bytes.get(sent..) else {
            return Err(PyValueError::new_err("data has changed its size"));
        };
        if sent == 0 && rest.len() <= HIGH_WATER {
            let waiting = self.transmit(py, &[outgoing.as_piece()?])?;
            return self.is_sent(py, waiting);
        }
        if rest.len() > HIGH_WATER {
            let write = |core: &mut core::Engine, token| core.write(token, rest);
            let Written::Accepted(n) = self.socket.get().with(py, write)? else {
                return Err(self.lost(py));
            };
            self.writer.with(py, |writer| writer.sent += n);
            if rest.len() - n > HIGH_WATER {
                return self.wait_for_room(py);
            }
        }
        let sent = self.writer.with(py, |writer| writer.sent);
        let waiting = self.transmit(py, &[Piece::lent(&bytes[sent..])])?;
        self.is_sent(py, waiting)
    }

    /// Has all of it accepted; returns how much has to wait.
    fn transmit(&self, py: Python<'_>, pieces: &[Piece<'_>]) -> PyResult<usize> {
        let transmit = |core: &mut core::Engine, token| core.transmit(token, pieces);
        let Some(waiting) = self.socket.get().with(py, transmit)? else {
            return Err(self.lost(py));
        };
        let len: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        self.writer.with(py, |writer| {
            writer.sent += len;
            writer.whole = true;
        });
        Ok(waiting)
    }

    fn is_sent(&self, py: Python<'_>, waiting: usize) -> PyResult<bool> {
        // Whoever had to wait is told when it is little again.
        let bound = self.writer.with(
            py,
            |writer| {
                if writer.busy { writer.low } else { writer.high }
            },
        );
        if waiting > bound {
            return self.wait_for_room(py);
        }
        self.writer.with(py, |writer| writer.busy = false);
        Ok(true)
    }

    fn wait_for_room(&self, py: Python<'_>) -> PyResult<bool> {
        self.writer.with(py, |writer| writer.busy = true);
        self.socket.get().with(py, core::Engine::await_drain)?;
        Ok(false)
    }

    /// Whoever sent has given up; returns how much of it was accepted.
    pub(super) fn stop_sending(&self, py: Python<'_>) -> usize {
        self.writer.with(py, |writer| {
            writer.busy = false;
            writer.sent
        })
    }

    /// What the sender's task is to wait for.
    pub(super) fn writing_waiter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Waiter>> {
        let known = self.writer.with(py, |writer| {
            writer.waiter.as_ref().map(|waiter| waiter.clone_ref(py))
        });
        let (waiter, is_new) = self.fresh(py, known)?;
        if is_new {
            let given = waiter.clone().unbind();
            let before = self.writer.with(py, |writer| writer.waiter.replace(given));
            drop(before);
        }
        Ok(waiter)
    }
}
