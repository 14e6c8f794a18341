//! What users of a stream await.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Stream;
use super::backlog::{Form, Until, Wish};
use super::operation::{Act, AtEnd, Operation};
use super::reading;

const DEFAULT_SIZE: usize = 64 * 1024;

#[pymethods]
impl Stream {
    /// To be awaited: what is there, at least one byte.
    ///
    /// Cancelling it loses no byte: what has arrived is what the next call gets.
    ///
    /// anyio: `ByteStream.receive()`.
    ///
    /// :param max_bytes: as many bytes at most.
    /// :raises BrokenResourceError: the connection broke; it is an OSError of the class that says
    ///     how, or an ssl.SSLError.
    /// :raises BusyResourceError: somebody else is reading.
    /// :raises ClosedResourceError: the stream was closed on this side.
    /// :raises EndOfStream: the peer sends no more: FIN or, with TLS, close_notify.
    /// :raises ValueError: max_bytes is less than 1.
    #[pyo3(signature = (max_bytes=65536))]
    fn receive<'py>(this: &Bound<'py, Self>, max_bytes: isize) -> PyResult<Bound<'py, Operation>> {
        let most = positive("max_bytes", max_bytes)?;
        Operation::of(this, Act::Read(Wish::Some(most), AtEnd::Raises))
    }

    /// To be awaited: fills the caller's memory with what is there, at least one byte.
    ///
    /// Where nothing waits, the kernel writes to it directly. It must not be used otherwise until
    /// this returns.
    ///
    /// Not in anyio.
    ///
    /// :param buffer: a writable, C-contiguous buffer, with room for one byte or more.
    /// :returns: the number of bytes received.
    /// :raises BrokenResourceError: as receive().
    /// :raises BusyResourceError: somebody else is reading.
    /// :raises ClosedResourceError: the stream was closed on this side.
    /// :raises EndOfStream: the peer sends no more.
    /// :raises TypeError: the buffer cannot be written to.
    /// :raises ValueError: it has no room.
    fn receive_into<'py>(
        this: &Bound<'py, Self>,
        buffer: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Operation>> {
        let size = reading::room_in(&buffer)?;
        Operation::of(this, Act::Fill(buffer.unbind(), size))
    }

    /// To be awaited: exactly so many bytes.
    ///
    /// anyio: `BufferedByteReceiveStream.receive_exactly()`.
    ///
    /// :param nbytes: how many.
    /// :raises BrokenResourceError: as receive().
    /// :raises BusyResourceError: somebody else is reading.
    /// :raises ClosedResourceError: the stream was closed on this side.
    /// :raises IncompleteRead: the peer sends no more; its `partial` has the bytes that had come.
    /// :raises ValueError: nbytes is less than 0.
    fn receive_exactly<'py>(
        this: &Bound<'py, Self>,
        nbytes: isize,
    ) -> PyResult<Bound<'py, Operation>> {
        let count = usize::try_from(nbytes).map_err(|_| {
            PyValueError::new_err(format!("nbytes must be 0 or more, got {nbytes}"))
        })?;
        Operation::of(this, Act::Read(Wish::Exactly(count), AtEnd::Raises))
    }

    /// To be awaited: the bytes before a delimiter, which is taken and left out.
    ///
    /// anyio: `BufferedByteReceiveStream.receive_until()`.
    ///
    /// :param delimiter: what to look for.
    /// :param max_bytes: so many bytes may come before it, at most.
    /// :raises BrokenResourceError: as receive().
    /// :raises BusyResourceError: somebody else is reading.
    /// :raises ClosedResourceError: the stream was closed on this side.
    /// :raises DelimiterNotFound: it does not come within max_bytes. The bytes stay.
    /// :raises IncompleteRead: the peer sends no more; its `partial` has the bytes that had come.
    /// :raises ValueError: the delimiter is empty, or max_bytes less than 1.
    fn receive_until<'py>(
        this: &Bound<'py, Self>,
        delimiter: &[u8],
        max_bytes: isize,
    ) -> PyResult<Bound<'py, Operation>> {
        let until = until(delimiter, max_bytes, Form::Bare)?;
        Operation::of(this, Act::Read(Wish::Until(until), AtEnd::Raises))
    }

    /// For `async for`: the lines, each without the CR and LF at its end, until the peer's FIN.
    ///
    /// Not in anyio.
    ///
    /// :param max_bytes: a longer line raises DelimiterNotFound.
    #[pyo3(signature = (max_bytes=65536))]
    fn lines(this: &Bound<'_, Self>, max_bytes: isize) -> PyResult<Lines> {
        Ok(Lines {
            stream: this.clone().unbind(),
            until: until(b"\n", max_bytes, Form::Line)?,
        })
    }

    /// To be awaited: sends all of the data, and returns when 64 KiB of it or less wait.
    ///
    /// Cancelled, it has sent a part, the rest never will be: `sent` of the exception says how much
    /// was accepted.
    ///
    /// anyio: `ByteStream.send()`.
    ///
    /// :param data: bytes or any C-contiguous buffer, or a str, sent as UTF-8. It must not change
    ///     until this returns.
    /// :raises BrokenResourceError: the connection broke, as in receive().
    /// :raises BusyResourceError: somebody else is sending.
    /// :raises ClosedResourceError: the stream was closed on this side, or `send_eof()` called.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    fn send<'py>(
        this: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Operation>> {
        Operation::of(this, Act::Send(data.unbind()))
    }

    /// To be awaited: the same for a list of buffers, which leave together.
    ///
    /// Not in anyio.
    ///
    /// :param buffers: what send() takes, any number of them.
    fn send_all<'py>(
        this: &Bound<'py, Self>,
        buffers: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Operation>> {
        let all = buffers.try_iter()?.map(|it| it.map(Bound::unbind));
        Operation::of(this, Act::SendAll(all.collect::<PyResult<_>>()?))
    }

    fn __aiter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __anext__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Operation>> {
        Operation::of(this, Act::Read(Wish::Some(DEFAULT_SIZE), AtEnd::Stops))
    }
}

/// What `Stream.lines()` returns.
#[pyclass(frozen, module = "mantou._core", name = "_Lines")]
pub struct Lines {
    stream: Py<Stream>,
    until: Until,
}

#[pymethods]
impl Lines {
    fn __aiter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Operation>> {
        let wish = Wish::Until(self.until.clone());
        Operation::of(self.stream.bind(py), Act::Read(wish, AtEnd::Stops))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.stream)
    }
}

fn positive(name: &str, value: isize) -> PyResult<usize> {
    match usize::try_from(value) {
        Ok(value @ 1..) => Ok(value),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be a positive integer, got {value}"
        ))),
    }
}

pub fn until(delimiter: &[u8], most: isize, form: Form) -> PyResult<Until> {
    if delimiter.is_empty() {
        return Err(PyValueError::new_err("delimiter must not be empty"));
    }
    Ok(Until {
        delimiter: delimiter.into(),
        others: Vec::new(),
        most: positive("max_bytes", most)?,
        form,
    })
}
