//! How a stream begins and ends, and what its socket tells it.

use mantou_engine as core;
use pyo3::prelude::*;

use super::ends::{End, broken, busy, raised};
use super::reading::Reader;
use super::waiter::Waiter;
use super::{HIGH_WATER, Side, Stream};
use crate::socket::Socket;
use crate::tls::Start;

#[pymethods]
impl Stream {
    /// It can carry data from now on.
    fn _begin(&self, py: Python<'_>) -> PyResult<()> {
        self.mark(py)
    }

    /// Ends our side behind everything that was sent. Somebody may be waiting for that to leave.
    #[pyo3(signature = (draining=false))]
    fn _finish_sending(&self, py: Python<'_>, draining: bool) -> PyResult<()> {
        if self.writer.with(py, |writer| writer.ended) {
            return Ok(());
        }
        if !draining && self.is_busy(py, Side::Writing) {
            return Err(busy(py, Side::Writing));
        }
        if let Some(error) = self.closed(py, Side::Writing) {
            return Err(error);
        }
        self.socket.get().with(py, core::Engine::shutdown)?;
        self.writer.with(py, |writer| writer.ended = true);
        Ok(())
    }

    /// Begins TLS with these `TlsSettings`, and other `ConnectionOptions` if they are given; returns
    /// the socket of the stream that takes the connection over. Bytes that nobody has asked for yet
    /// are its.
    fn _upgrade<'py>(
        this: &Bound<'py, Self>,
        settings: &Bound<'py, PyAny>,
        server_side: bool,
        options: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Socket>> {
        let py = this.py();
        let stream = this.get();
        for side in [Side::Reading, Side::Writing] {
            stream.check_free(py, side)?;
        }
        let socket = stream.socket.bind(py);
        let mut start = Start::new(settings, server_side, socket.get().hostname())?;
        start.initial = stream.reader.with(py, |reader| reader.bytes().to_vec());
        let options = options.map(|options| socket.get().engine().get().settings.of(options));
        let options = options.transpose()?;
        let secure = Socket::upgrade_with(socket, start, None, py.None())?;
        secure.get().with(py, |core, token| {
            core.set_paused(token, false);
            if let Some(options) = options {
                core.set_settings(token, options);
            }
        })?;
        stream.reader.with(py, Reader::discard);
        stream.finish(py, End::Closed);
        socket.get().forget_handlers(py);
        Ok(secure)
    }

    /// Closed on this side: whoever reads or sends is told. Whether it was open. What was received
    /// can be kept to be read.
    #[pyo3(signature = (keep=false))]
    fn _close(&self, py: Python<'_>, keep: bool) -> PyResult<bool> {
        // Whoever closes it beside its loop's thread is told so, and changes nothing.
        self.socket.get().with(py, |_, _| ())?;
        let was_open = self.finish(py, End::Closed);
        if !keep {
            drop(self.end.replace(py, End::Closed));
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

    /// What broke the connection.
    #[getter(_error)]
    pub(super) fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.end.with(py, |end| end.seen(py)) {
            End::Broken(error) => Some(error),
            _ => None,
        }
    }
}

/// What its socket tells it, as it tells a transport.
#[pymethods]
impl Stream {
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

    /// TLS has broken. What was sent may still leave, of which nobody waits to hear.
    fn _on_error(
        &self,
        py: Python<'_>,
        _socket: &Bound<'_, Socket>,
        error: Py<PyAny>,
    ) -> PyResult<()> {
        self.finish(py, End::Broken(error));
        self.wake_all(py)
    }

    #[allow(clippy::unused_self)]
    fn _on_open(&self, _socket: &Bound<'_, Socket>) {}

    #[allow(clippy::unused_self)]
    fn _on_connect_error(&self, _socket: &Bound<'_, Socket>, _error: &Bound<'_, PyAny>) {}

    #[allow(clippy::unused_self)]
    fn _on_timeout(&self, _socket: &Bound<'_, Socket>) {}

    /// In a forked child: there is nothing to let go of but the socket.
    #[allow(clippy::unused_self)]
    fn _forget_file(&self) {}
}

impl Stream {
    /// Tells the engine how much is gathered, and how little has to wait when a sender goes on.
    pub(super) fn mark(&self, py: Python<'_>) -> PyResult<()> {
        let low = self.writer.with(py, |writer| writer.low);
        let marks = |core: &mut core::Engine, token| core.set_marks(token, HIGH_WATER, low);
        self.socket.get().with(py, marks)
    }

    /// It has ended, unless it had before. Whether it was open.
    pub(super) fn finish(&self, py: Python<'_>, end: End) -> bool {
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

    pub(super) fn is_busy(&self, py: Python<'_>, side: Side) -> bool {
        match side {
            Side::Reading => self.reader.with(py, |reader| reader.is_busy()),
            Side::Writing => self.writer.with(py, |writer| writer.is_busy()),
        }
    }

    /// Refuses whoever comes while another is at it, or when that side has ended.
    pub(super) fn check_free(&self, py: Python<'_>, side: Side) -> PyResult<()> {
        if self.is_busy(py, side) {
            return Err(busy(py, side));
        }
        self.closed(py, side).map_or(Ok(()), Err)
    }

    /// Why nothing more can be received or sent.
    pub(super) fn closed(&self, py: Python<'_>, side: Side) -> Option<PyErr> {
        let is_writing = side == Side::Writing;
        let text = match self.end.with(py, |end| end.seen(py)) {
            End::Broken(error) => return Some(broken(py, error)),
            End::Closed => "the stream is closed",
            End::Finished if is_writing => "the stream is closed",
            End::Open if is_writing && self.writer.with(py, |writer| writer.ended) => {
                "the sending side was ended by send_eof()"
            }
            End::Open | End::Finished => return None,
        };
        Some(raised(py, "ClosedResourceError", (text,)))
    }

    /// A send found the connection gone, of which the reading side is still to hear.
    pub(super) fn lost(&self, py: Python<'_>) -> PyErr {
        match self.socket.get().why_lost(py) {
            Ok(Some(error)) => broken(py, error),
            Ok(None) => raised(py, "ClosedResourceError", ("the connection is closed",)),
            Err(error) => error,
        }
    }
}
