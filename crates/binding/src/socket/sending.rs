//! What users send, and how they end a connection.

use mantou_engine::{self as core, Written};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::waiters::Goal;
use super::{Cork, Socket};
use crate::buffers::Outgoing;
use crate::errors;
use crate::host;

#[pymethods]
impl Socket {
    /// Hands data to the kernel, as much as it takes right now.
    ///
    /// Nothing is kept: of what was not taken, the caller has to call again, when `drain` says
    /// that there is room. It is called once after a short write. With TLS the engine takes the
    /// bytes and seals them; before the handshake is done it takes none.
    ///
    /// Where `packet` is 1, 2 or 4, the data is one packet, which is taken whole or not at all: not
    /// while bytes wait. What the kernel leaves of it waits here. An empty one is best sent with
    /// `write_all()`: 0 does not tell whether it was taken.
    ///
    /// Bun: `socket.write()`.
    ///
    /// :param data: a str, sent as UTF-8, or any C-contiguous buffer, which is not copied first.
    /// :param byte_offset: where in the data to begin, in bytes.
    /// :param byte_length: how many bytes of it; None for the rest.
    /// :returns: the number of bytes taken, 0 included; -1 when closed or after `end()`.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    /// :raises ValueError: offset or length are outside the data, or a packet is longer than its
    ///     length in front of it can say.
    #[pyo3(signature = (data, byte_offset=0, byte_length=None))]
    fn write(
        &self,
        data: &Bound<'_, PyAny>,
        byte_offset: isize,
        byte_length: Option<isize>,
    ) -> PyResult<isize> {
        let outgoing = Outgoing::new(data)?;
        let bytes = part(outgoing.as_slice()?, byte_offset, byte_length)?;
        match self.with(data.py(), |core, token| core.write(token, bytes))? {
            Written::Accepted(n) => Ok(n.cast_signed()),
            Written::Closed => Ok(-1),
            Written::TooLong { longest } => Err(errors::packet_too_long(bytes.len(), longest)),
        }
    }

    /// Takes all of the data, sends what the kernel takes and keeps the rest, in order.
    ///
    /// The bytes are safe even if the caller changes its buffer. `drain` is called once when the
    /// queue has emptied; until then `write()` takes nothing.
    ///
    /// Not in Bun.
    ///
    /// :param data: a str, sent as UTF-8, or any C-contiguous buffer.
    /// :raises BrokenPipeError: closed, or after `end()`.
    /// :raises BufferError: bytes wait already, and with these there would be more than
    ///     `write_limit`; nothing of this call was taken. What finds nothing waiting is always
    ///     taken, whatever its size.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    /// :raises ValueError: a packet is longer than its length in front of it can say.
    fn write_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let outgoing = Outgoing::new(data)?;
        let bytes = outgoing.as_slice()?;
        self.with(data.py(), |core, token| core.write_all(token, bytes))?
            .map_err(|error| errors::from_write_all(&error, bytes.len()))
    }

    /// To be awaited: takes all of the data and returns when little enough of it has to wait.
    ///
    /// The data is taken at once, however much it is and also if nobody awaits the result; more
    /// is best sent when it has returned: then at most 64 KiB wait. `drain` is not called for it.
    /// Cancelling it takes nothing back.
    ///
    /// Not in Bun.
    ///
    /// :param data: a str, sent as UTF-8, or any C-contiguous buffer. Of `bytes` that have to wait
    ///     no copy is made.
    /// :raises BrokenPipeError: closed, or after `end()`.
    /// :raises ConnectionError: the connection was over before.
    /// :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    /// :raises ValueError: a packet is longer than its length in front of it can say.
    fn send<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let outgoing = Outgoing::new(data)?;
        let piece = outgoing.as_piece()?;
        self.with(data.py(), |core, token| core.send_all(token, piece))?
            .map_err(|error| errors::from_write_all(&error, piece.bytes.len()))?;
        self.room(data.py())
    }

    /// To be awaited: returns when everything accepted so far is in the kernel.
    ///
    /// Not in Bun.
    ///
    /// :raises ConnectionError: the connection was over first.
    /// :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
    fn drained<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (open, (sent, goal)) = self.with(py, |core, token| {
            (
                (core.is_open(token) || core.queued(token) > 0) && core.broken(token).is_none(),
                core.progress(token),
            )
        })?;
        let future = self.wait_for(py, Goal::Sent(if open { goal } else { 0 }))?;
        if !open {
            let taken = self.waiters.with(py, Vec::pop);
            drop(taken);
            let lost = errors::lost_bytes(py, self.why_lost(py)?);
            let lost = errors::value(py, lost).into_bound(py);
            host::resolve(&future, Some(lost.as_any()));
        } else if sent >= goal {
            self.settle_sent(py)?;
        } else {
            self.with(py, |core, token| core.watch_sends(token, true))?;
        }
        Ok(future)
    }

    /// Bytes accepted that the kernel would not take, or that wait for the TLS handshake.
    ///
    /// What is only gathered until the turn or the cork ends does not count. Whoever has seen
    /// more than 0 gets `drain` when it is 0 again.
    ///
    /// Not in Bun.
    #[getter]
    fn buffered(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, core::Engine::buffered)
    }

    /// A context whose writes leave together: in one system call, in few TLS records.
    ///
    /// They are sent when the outermost block ends, or when 64 KiB are gathered.
    ///
    /// Not in Bun.
    fn cork(this: Bound<'_, Self>) -> Cork {
        Cork(this.unbind())
    }

    /// Sends now what `cork()` or TLS holds back.
    ///
    /// Bun: `socket.flush()`.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::flush)
    }

    /// Sends the last data and, once everything accepted is sent, FIN.
    ///
    /// With TLS `close_notify` goes before the FIN. All of the data is delivered, also if it has
    /// to wait. Reading goes on until the peer's FIN; where `allow_half_open` is False, a peer
    /// that makes no progress is cut off after `close_timeout` seconds. Empty data is no packet.
    ///
    /// Bun: `socket.end()`.
    ///
    /// :param data: a str, sent as UTF-8, or any C-contiguous buffer; None for no more.
    /// :param byte_offset: where in the data to begin, in bytes.
    /// :param byte_length: how many bytes of it; None for the rest.
    /// :returns: the length of the data in bytes; -1 if already ended or closed.
    /// :raises BufferError: bytes wait already, and with these there would be more than
    ///     `write_limit`; nothing was sent, nothing is ended.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    /// :raises ValueError: offset or length are outside the data, or a packet is longer than its
    ///     length in front of it can say.
    #[pyo3(signature = (data=None, byte_offset=0, byte_length=None))]
    fn end(
        &self,
        py: Python<'_>,
        data: Option<&Bound<'_, PyAny>>,
        byte_offset: isize,
        byte_length: Option<isize>,
    ) -> PyResult<isize> {
        let outgoing = data.map(Outgoing::new).transpose()?;
        let bytes = match &outgoing {
            Some(outgoing) => part(outgoing.as_slice()?, byte_offset, byte_length)?,
            None => part(&[], byte_offset, byte_length)?,
        };
        match self.with(py, |core, token| core.end(token, bytes))? {
            Ok(()) => Ok(bytes.len().cast_signed()),
            Err(core::WriteAllError::Closed) => Ok(-1),
            Err(error) => Err(errors::from_write_all(&error, bytes.len())),
        }
    }

    /// Ends one direction of the connection.
    ///
    /// Bun: `socket.shutdown()`.
    ///
    /// :param half_close: False: FIN once everything accepted is sent; reading goes on, without
    ///     a time limit. True: stop receiving; what still arrives is discarded, writing goes on.
    #[pyo3(signature = (half_close=false))]
    fn shutdown(&self, py: Python<'_>, half_close: bool) -> PyResult<()> {
        if half_close {
            self.with(py, core::Engine::stop_reading)
        } else {
            self.with(py, core::Engine::shutdown)
        }
    }

    /// Ends the connection without waiting for the peer.
    ///
    /// What was accepted is still sent, then FIN, then `close` is called; no other event comes
    /// any more. The descriptor stays behind to swallow late input, at most until nothing has
    /// moved for `close_timeout` seconds, so that no RST destroys what the peer has not read.
    ///
    /// Bun: `socket.close()`.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::close_gracefully)
    }

    /// Resets the connection at once; bytes that wait are lost.
    ///
    /// The peer gets a RST. `close` is called with None: it was our own wish.
    ///
    /// Bun: `socket.terminate()`.
    pub fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::terminate)
    }
}

/// The part of the data that offset and length select.
#[inline]
fn part(data: &[u8], offset: isize, length: Option<isize>) -> PyResult<&[u8]> {
    if offset == 0 && length.is_none() {
        return Ok(data);
    }
    let outside = |name: &str, value: isize| {
        let size = data.len();
        PyValueError::new_err(format!(
            "{name}={value} is outside the {size} bytes of data"
        ))
    };
    let start = usize::try_from(offset)
        .ok()
        .filter(|start| *start <= data.len());
    let rest = &data[start.ok_or_else(|| outside("byte_offset", offset))?..];
    let Some(length) = length else {
        return Ok(rest);
    };
    let end = usize::try_from(length)
        .ok()
        .filter(|end| *end <= rest.len());
    Ok(&rest[..end.ok_or_else(|| outside("byte_length", length))?])
}
