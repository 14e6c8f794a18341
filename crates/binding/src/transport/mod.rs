//! What asyncio programs hold of a connection: asyncio's transport over a native socket. Here is what
//! is called for each message; what is called once or twice in a connection's life is its subclass
//! in `python/mantou/_transport.py`.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use mantou_engine::Piece;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::buffers::Outgoing;
use crate::cell::Guarded;
use crate::handlers::Handlers;
use crate::socket::Socket;

mod calls;
mod flow;
mod life;

/// asyncio's limits, in the clear and over TLS.
const HIGH_WATER: usize = 64 * 1024;
const HIGH_WATER_TLS: usize = 512 * 1024;

#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
struct State {
    /// Its protocol has been told that it is there.
    begun: bool,
    closing: bool,
    /// `write_eof()` was called.
    ended: bool,
    reading_paused: bool,
    writing_paused: bool,
    /// The kernel is sending a file: nobody else may write.
    sends_file: bool,
    secure: bool,
    /// Writes that came too late.
    late_writes: u32,
    high_water: usize,
    low_water: usize,
}

/// The native part of a transport.
#[pyclass(frozen, subclass, weakref, module = "mantou._core")]
pub struct Transport {
    socket: Py<Socket>,
    protocol: Guarded<Option<Py<PyAny>>>,
    state: Guarded<State>,
}

#[pymethods]
impl Transport {
    /// For a connection, or for the socket of one to come.
    #[new]
    #[pyo3(signature = (socket, secure, *_arguments, **_options))]
    fn new(
        socket: Py<Socket>,
        secure: bool,
        _arguments: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        let high_water = if secure { HIGH_WATER_TLS } else { HIGH_WATER };
        Self {
            socket,
            protocol: Guarded::new(None),
            state: Guarded::new(State {
                begun: false,
                closing: false,
                ended: false,
                reading_paused: false,
                writing_paused: false,
                sends_file: false,
                secure,
                late_writes: 0,
                high_water,
                low_water: high_water / 4,
            }),
        }
    }

    /// The connection's socket.
    #[getter]
    fn _socket(&self, py: Python<'_>) -> Py<Socket> {
        self.socket.clone_ref(py)
    }

    /// Whether TLS is spoken.
    #[getter]
    fn _secure(&self, py: Python<'_>) -> bool {
        self.state.get(py).secure
    }

    /// Gives what comes from now on to another protocol.
    fn set_protocol(this: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let buffered = is_buffered(&protocol)?;
        let transport = this.clone().into_any().unbind();
        let handlers = Handlers::of_protocol(transport, &protocol, buffered)?;
        this.get().socket.get().set_handlers(py, handlers);
        let before = this.get().protocol.replace(py, Some(protocol.unbind()));
        drop(before);
        Ok(())
    }

    /// The protocol; None once it was told that the connection is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.cloned(py)
    }

    /// Sends data, now or as soon as the peer reads. Nothing is refused: the protocol's
    /// `pause_writing()` is called when too much has to wait.
    ///
    /// :raises RuntimeError: after `write_eof()`, or while a file is sent.
    /// :raises TypeError: the data is not bytes, bytearray or memoryview.
    fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if !is_bytes_like(data) {
            let class = data.get_type();
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not {}",
                class.name()?.repr()?
            )));
        }
        let state = this.get().writable(this.py())?;
        let outgoing = Outgoing::new(data)?;
        let piece = outgoing.as_piece()?;
        if piece.bytes.is_empty() {
            return Ok(());
        }
        transmit(this, state, &[piece])
    }

    /// Sends several pieces in one system call.
    ///
    /// :raises RuntimeError: after `write_eof()`, or while a file is sent.
    /// :raises TypeError: one of them is not bytes-like.
    fn writelines(this: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let state = this.get().writable(this.py())?;
        let outgoing = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                if is_bytes_like(item) {
                    Outgoing::new(item)
                } else {
                    Err(not_joined(index, item))
                }
            })
            .collect::<PyResult<Vec<_>>>()?;
        let pieces = outgoing
            .iter()
            .map(Outgoing::as_piece)
            .collect::<PyResult<Vec<_>>>()?;
        if pieces.iter().all(|piece| piece.bytes.is_empty()) {
            return Ok(());
        }
        transmit(this, state, &pieces)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        self.protocol.traverse(&visit, |it, visit| visit.call(it))
    }

    fn __clear__(&self) {
        drop(self.protocol.take());
    }
}

impl Transport {
    fn writable(&self, py: Python<'_>) -> PyResult<State> {
        let state = self.state.get(py);
        if state.ended {
            return Err(PyRuntimeError::new_err(
                "Cannot call write() after write_eof()",
            ));
        }
        if state.sends_file {
            return Err(PyRuntimeError::new_err(
                "unable to write; sendfile is in progress",
            ));
        }
        Ok(state)
    }
}

#[inline]
fn transmit(this: &Bound<'_, Transport>, state: State, pieces: &[Piece<'_>]) -> PyResult<()> {
    let py = this.py();
    let transport = this.get();
    let waiting = if state.closing {
        None
    } else {
        let socket = transport.socket.get();
        socket.with(py, |core, token| core.transmit(token, pieces))?
    };
    match waiting {
        Some(0) => Ok(()),
        Some(waiting) => flow::pause_protocol(this, waiting),
        None => {
            let late = transport.state.with(py, |state| {
                state.closing = true;
                state.late_writes += 1;
                state.late_writes
            });
            // asyncio's threshold.
            if late > 5 {
                this.call_method0(intern!(py, "_warn_of_late_writes"))?;
            }
            Ok(())
        }
    }
}

#[inline]
fn is_bytes_like(data: &Bound<'_, PyAny>) -> bool {
    data.is_exact_instance_of::<PyBytes>()
        || data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
}

/// As `bytes.join()` says it, which is what asyncio's transports do.
fn not_joined(index: usize, item: &Bound<'_, PyAny>) -> PyErr {
    match item.get_type().name() {
        Ok(class) => PyTypeError::new_err(format!(
            "sequence item {index}: expected a bytes-like object, {class} found"
        )),
        Err(error) => error,
    }
}

fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let class = CLASS.import(protocol.py(), "asyncio", "BufferedProtocol")?;
    protocol.is_instance(class)
}
