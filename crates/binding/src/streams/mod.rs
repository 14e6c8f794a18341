//! A connection with `await`: the native half of `mantou.Stream`. What is awaited for each message is
//! here; what is called once or twice in a stream's life is its subclass in
//! `python/mantou/_streams.py`.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use mantou_engine as core;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::cell::Guarded;
use crate::errors;
use crate::handlers::Handlers;
use crate::socket::Socket;
use crate::tls::Start;

mod backlog;
mod operation;
mod reading;
mod waiter;
mod writing;

use backlog::{Form, Until, Wish};
pub use operation::Operation;
use operation::{Act, AtEnd};
use reading::Reader;
pub use reading::{Arrived, Room};
pub use waiter::Waiter;
use writing::Writer;

/// Puts on classes what goes past PyO3.
pub fn install(py: Python<'_>) -> PyResult<()> {
    operation::install(py);
    waiter::install(py)
}

/// So much may wait to be sent when `send()` returns.
const HIGH_WATER: usize = 64 * 1024;
const DEFAULT_SIZE: usize = 64 * 1024;

/// How a stream has ended for those who use it.
#[derive(Default)]
enum End {
    #[default]
    Open,
    /// We closed it.
    Closed,
    /// Both sides have finished.
    Finished,
    /// The connection broke, for this reason.
    Broken(Py<PyAny>),
}

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

    // For `StreamReader`, to which the end is no exception.

    fn _read<'py>(this: &Bound<'py, Self>, most: isize) -> PyResult<Bound<'py, Operation>> {
        let wish = usize::try_from(most).map_or(Wish::All, Wish::Some);
        Operation::of(this, Act::Read(wish, AtEnd::Empty))
    }

    fn _read_exactly<'py>(
        this: &Bound<'py, Self>,
        count: usize,
    ) -> PyResult<Bound<'py, Operation>> {
        Operation::of(this, Act::Read(Wish::Exactly(count), AtEnd::Empty))
    }

    /// Up to the end of whichever delimiter comes first, and with it.
    #[allow(clippy::needless_pass_by_value)]
    fn _read_whole<'py>(
        this: &Bound<'py, Self>,
        delimiters: Vec<Vec<u8>>,
        most: isize,
    ) -> PyResult<Bound<'py, Operation>> {
        let Some((first, others)) = delimiters.split_first() else {
            return Err(PyValueError::new_err("there must be a delimiter"));
        };
        let mut until = until(first, most, Form::Whole)?;
        until.others = others.iter().map(|other| other.as_slice().into()).collect();
        Operation::of(this, Act::Read(Wish::Until(until), AtEnd::Empty))
    }

    /// What was received and is not read yet.
    fn _unread<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.reader
            .with(py, |reader| PyBytes::new(py, reader.bytes()))
    }

    fn _skip(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.reader.with(py, |reader| reader.consume(count));
        self.resume_if_empty(py)
    }

    /// Takes everything, in pieces that leave together; nothing once the stream has ended.
    #[allow(clippy::needless_pass_by_value)]
    fn _write(&self, py: Python<'_>, buffers: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        self.write(py, &buffers)
    }

    fn _drain<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Operation>> {
        Operation::of(this, Act::Drain)
    }

    /// Who drives TLS, if it is not the engine.
    #[getter]
    fn _driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.socket.get().driver(py)
    }

    /// What broke the connection.
    #[getter]
    fn _error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.end.with(py, |end| match end {
            End::Broken(error) => Some(error.clone_ref(py)),
            _ => None,
        })
    }

    // Its life

    /// It can carry data from now on.
    fn _begin(&self, py: Python<'_>) -> PyResult<()> {
        self.mark(py)
    }

    /// How little and how much may wait when nobody has to wait for it.
    #[getter]
    fn _marks(&self, py: Python<'_>) -> (usize, usize) {
        self.writer.with(py, |writer| (writer.low, writer.high))
    }

    fn _set_marks(&self, py: Python<'_>, low: usize, high: usize) -> PyResult<()> {
        self.writer.with(py, |writer| {
            (writer.low, writer.high) = (low, high);
        });
        self.mark(py)
    }

    /// Closed on this side: whoever reads or sends is told. Whether it was open. What was received
    /// can be kept to be read.
    #[pyo3(signature = (keep=false))]
    fn _close(&self, py: Python<'_>, keep: bool) -> PyResult<bool> {
        let was_open = self.finish(py, End::Closed);
        if !keep {
            self.reader.with(py, Reader::discard);
        }
        if was_open {
            self.wake_all(py)?;
        }
        Ok(was_open)
    }

    /// Whether it was closed on this side, or the connection is gone.
    #[getter]
    fn _is_over(&self, py: Python<'_>) -> bool {
        self.end.with(py, |end| !matches!(end, End::Open))
    }

    /// The peer has finished, and nothing of what it sent is left.
    #[getter]
    fn _at_end(&self, py: Python<'_>) -> bool {
        self.reader.with(py, |reader| reader.is_at_end())
    }

    /// Ends our side behind everything that was sent.
    fn _finish_sending(&self, py: Python<'_>) -> PyResult<()> {
        if self.writer.with(py, |writer| writer.ended) {
            return Ok(());
        }
        if self.is_busy(py, Side::Writing) {
            return Err(self.busy(py, Side::Writing));
        }
        if let Some(error) = self.closed(py, Side::Writing) {
            return Err(error);
        }
        self.writer.with(py, |writer| writer.ended = true);
        self.socket.get().with(py, core::Engine::shutdown)
    }

    /// Begins TLS with these `TlsSettings`; returns the socket of the stream that takes the
    /// connection over. Bytes that nobody has asked for yet are its.
    fn _upgrade<'py>(
        this: &Bound<'py, Self>,
        settings: &Bound<'py, PyAny>,
        server_side: bool,
    ) -> PyResult<Bound<'py, Socket>> {
        let py = this.py();
        let stream = this.get();
        for side in [Side::Reading, Side::Writing] {
            if stream.is_busy(py, side) {
                return Err(stream.busy(py, side));
            }
            if let Some(error) = stream.closed(py, side) {
                return Err(error);
            }
        }
        let socket = stream.socket.bind(py);
        let mut start = Start::new(settings, server_side, socket.get().hostname())?;
        start.initial = stream.reader.with(py, |reader| reader.bytes().to_vec());
        let paused = stream.reader.with(py, Reader::resume);
        if paused {
            socket
                .get()
                .with(py, |core, token| core.set_paused(token, false))?;
        }
        let secure = Socket::upgrade_with(socket, start, None, py.None())?;
        stream.reader.with(py, Reader::discard);
        stream.finish(py, End::Closed);
        socket.get().forget_handlers(py);
        Ok(secure)
    }

    // What the socket tells

    fn _on_drain(&self, py: Python<'_>, _socket: &Bound<'_, Socket>) -> PyResult<()> {
        match self.writer.with(py, |writer| writer.waiter(py)) {
            Some(waiter) => Waiter::wake_now(waiter.bind(py)),
            None => Ok(()),
        }
    }

    fn _on_end(&self, py: Python<'_>, _socket: &Bound<'_, Socket>) -> PyResult<()> {
        self.reader.with(py, |reader| reader.ended = true);
        match self.reader.with(py, |reader| reader.waiter(py)) {
            Some(waiter) => Waiter::wake_now(waiter.bind(py)),
            None => Ok(()),
        }
    }

    fn _on_close(
        &self,
        py: Python<'_>,
        _socket: &Bound<'_, Socket>,
        error: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let end = error.map_or(End::Finished, End::Broken);
        self.finish(py, end);
        self.socket.get().forget_handlers(py);
        self.wake_all(py)
    }

    #[allow(clippy::unused_self)]
    fn _on_open(&self, _socket: &Bound<'_, Socket>) {}

    #[allow(clippy::unused_self)]
    fn _on_connect_error(&self, _socket: &Bound<'_, Socket>, _error: &Bound<'_, PyAny>) {}

    #[allow(clippy::unused_self)]
    fn _on_error(&self, _socket: &Bound<'_, Socket>, _error: &Bound<'_, PyAny>) {}

    #[allow(clippy::unused_self)]
    fn _on_timeout(&self, _socket: &Bound<'_, Socket>) {}

    /// In a forked child: there is nothing to let go of but the socket.
    #[allow(clippy::unused_self)]
    fn _forget_file(&self) {}

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

impl Stream {
    /// Tells the engine how much is gathered, and how little has to wait when a sender goes on.
    fn mark(&self, py: Python<'_>) -> PyResult<()> {
        let low = self.writer.with(py, |writer| writer.low);
        let marks = |core: &mut core::Engine, token| core.set_marks(token, HIGH_WATER, low);
        self.socket.get().with(py, marks)
    }

    /// It has ended, unless it had before. Whether it was open.
    fn finish(&self, py: Python<'_>, end: End) -> bool {
        let open = self.end.with(py, |end| matches!(end, End::Open));
        if open {
            drop(self.end.replace(py, end));
        }
        open
    }

    /// Those who wait find out why in the loop's next turn: a task may be running now.
    fn wake_all(&self, py: Python<'_>) -> PyResult<()> {
        let reading = self.reader.with(py, |reader| reader.waiter(py));
        let writing = self.writer.with(py, |writer| writer.waiter(py));
        for waiter in [reading, writing].into_iter().flatten() {
            Waiter::wake(waiter.bind(py))?;
        }
        Ok(())
    }

    fn is_busy(&self, py: Python<'_>, side: Side) -> bool {
        match side {
            Side::Reading => self.reader.with(py, |reader| reader.is_busy()),
            Side::Writing => self.writer.with(py, |writer| writer.is_busy()),
        }
    }

    /// Why nothing more can be received or sent.
    fn closed(&self, py: Python<'_>, side: Side) -> Option<PyErr> {
        let broken = self.end.with(py, |end| match end {
            End::Open => Err(false),
            End::Closed => Err(true),
            End::Finished => Err(side == Side::Writing),
            End::Broken(error) => Ok(error.clone_ref(py)),
        });
        match broken {
            Ok(error) => Some(broken_by(py, error)),
            Err(closed) if closed => Some(raised(py, "closed", "the stream is closed")),
            Err(_) if side == Side::Writing && self.writer.with(py, |it| it.ended) => Some(raised(
                py,
                "closed",
                "the sending side was ended by send_eof()",
            )),
            Err(_) => None,
        }
    }

    #[allow(clippy::unused_self)]
    fn busy(&self, py: Python<'_>, side: Side) -> PyErr {
        let action = match side {
            Side::Reading => "reading from",
            Side::Writing => "writing to",
        };
        raised(py, "busy", action)
    }

    /// A send found the connection gone, of which the reading side is still to hear.
    fn lost(&self, py: Python<'_>) -> PyErr {
        let known = self.socket.get().with(py, |core, token| core.broken(token));
        match known {
            Ok(Some(error)) => {
                let error = errors::from_io(&error).into_value(py).into_any();
                broken_by(py, error)
            }
            Ok(None) => raised(py, "closed", "the connection is closed"),
            Err(error) => error,
        }
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

/// One of the exceptions of `mantou._stream_errors`, which are anyio's where that is installed.
fn raised<'py>(py: Python<'py>, make: &str, argument: impl IntoPyObject<'py>) -> PyErr {
    let error = (|| {
        let errors = py.import(intern!(py, "mantou._stream_errors"))?;
        errors.getattr(make)?.call1((argument,))
    })();
    match error {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

fn broken_by(py: Python<'_>, error: Py<PyAny>) -> PyErr {
    raised(py, "broken", error)
}

fn positive(name: &str, value: isize) -> PyResult<usize> {
    match usize::try_from(value) {
        Ok(value @ 1..) => Ok(value),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be a positive integer, got {value}"
        ))),
    }
}

fn until(delimiter: &[u8], most: isize, form: Form) -> PyResult<Until> {
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

fn not_writable(class: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "buffer must be a writable, C-contiguous buffer, not {class}"
    ))
}
