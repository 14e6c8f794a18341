//! What asyncio's reader and writer over a stream need: see `python/mantou/_asyncio_streams.py`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Stream;
use super::backlog::{Form, Wish};
use super::ends::End;
use super::members::until;
use super::operation::{Act, AtEnd, Operation};

// To asyncio's reader the end is no exception.
#[pymethods]
impl Stream {
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
        self.resume_if_emptied(py)
    }

    /// Takes everything, in pieces that leave together; nothing once the stream has ended.
    #[allow(clippy::needless_pass_by_value)]
    fn _write(&self, py: Python<'_>, buffers: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        self.write(py, &buffers)
    }

    fn _drain<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Operation>> {
        Operation::of(this, Act::Drain)
    }

    /// Nothing more comes, and nothing of what came is left. A connection that broke has no end.
    #[getter]
    fn _at_end(&self, py: Python<'_>) -> bool {
        let is_over = self
            .end
            .with(py, |end| matches!(end, End::Closed | End::Finished));
        self.reader.with(py, |reader| reader.is_at_end(is_over))
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

    /// Whether what comes is received.
    #[getter]
    fn _is_reading(&self, py: Python<'_>) -> bool {
        let is_open = self.end.with(py, |end| matches!(end, End::Open));
        is_open && self.reader.with(py, |reader| !reader.is_stopped())
    }

    /// Receives nothing more, or goes on.
    fn _hold(&self, py: Python<'_>, held: bool) -> PyResult<()> {
        let stopped = self.reader.with(py, |reader| {
            reader.held = held;
            reader.is_stopped()
        });
        self.set_paused(py, stopped)
    }

    /// Who drives TLS, if it is not the engine.
    #[getter]
    fn _driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.socket.get().driver(py)
    }
}
