//! Sending files. What is checked, and awaited, is in `_send_file.py`.

use std::os::fd::RawFd;
use std::sync::Arc;

use mantou_engine::{self as core, FilePart, FileProgress, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Socket;
use crate::engine::Engine;
use crate::errors;

/// A file that is being sent, and how far it has come.
#[pyclass(frozen, module = "mantou._core")]
pub struct FileSend {
    engine: Py<Engine>,
    /// Its connection, whoever owns that by now.
    token: Token,
    progress: Arc<FileProgress>,
}

#[pymethods]
impl FileSend {
    #[getter]
    fn sent(&self) -> u64 {
        self.progress.sent()
    }

    /// Why it could not be read to its end.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let error = self.progress.error()?;
        Some(errors::value(py, errors::from_io(&error)).into_any())
    }

    /// Has no more of it sent than is on its way.
    fn withdraw(&self) -> PyResult<()> {
        let withdraw = |core: &mut core::Engine| core.withdraw_file(self.token, &self.progress);
        self.engine.get().core.with(withdraw)
    }
}

#[pymethods]
impl Socket {
    /// Sends a file, or a part of it: by sendfile(2) in the clear, and sealed over TLS.
    ///
    /// It goes behind everything that was accepted before, and ahead of what is accepted
    /// meanwhile: `write()` takes nothing until it is sent. Read from a slow disk, it keeps the
    /// loop waiting. Its position neither counts nor changes. A file that turns out to be shorter
    /// ends earlier; what it grows by meanwhile is left out. Cancelled, it sends no more than is on
    /// its way.
    ///
    /// Not in Bun.
    ///
    /// :param file: a binary file that is open for reading and has a descriptor.
    /// :param offset: where in the file to begin, in bytes.
    /// :param count: how many bytes of it at most; None for all up to its end.
    /// :returns: to be awaited: the number of bytes sent, once all of them are in the kernel.
    /// :raises BrokenPipeError: closed, or after `end()`.
    /// :raises BufferError: with what waits already it is more than can be counted: it has a hole.
    /// :raises ConnectionError: the connection was over first.
    /// :raises OSError: the file cannot be read.
    /// :raises TypeError: the file has no descriptor or is in text mode, or an argument is of the
    ///     wrong type.
    /// :raises ValueError: not a regular file, or one without a size, as in /proc; an argument is
    ///     negative; or what is sent gets a length in front (`packet`).
    #[pyo3(signature = (file, offset=None, count=None), text_signature = "(self, /, file, offset=0, count=None)")]
    fn send_file<'py>(
        this: &Bound<'py, Self>,
        file: &Bound<'py, PyAny>,
        offset: Option<&Bound<'py, PyAny>>,
        count: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static SEND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = this.py();
        let send = SEND.import(py, "mantou._send_file", "send_file")?;
        match offset {
            Some(offset) => send.call1((this, file, offset, count)),
            None => send.call1((this, file, 0, count)),
        }
    }

    /// Takes over a descriptor of a file and begins to send from it.
    fn _send_file(
        &self,
        py: Python<'_>,
        fd: RawFd,
        offset: u64,
        count: usize,
    ) -> PyResult<FileSend> {
        let part = FilePart::own(fd, offset, count).map_err(|error| errors::from_io(&error))?;
        if self.with(py, |core, token| core.sends_packets(token))? {
            return Err(PyValueError::new_err(
                "send_file() on a socket whose packets have their length in front; \
                 set_packet('raw') ends them",
            ));
        }
        let progress = part.progress();
        self.with(py, |core, token| core.send_file(token, part))?
            .map_err(|error| errors::from_write_all(&error, count))?;
        Ok(FileSend {
            engine: self.engine().clone_ref(py),
            token: self.token(py),
            progress,
        })
    }
}
