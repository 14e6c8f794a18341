//! What users see of a socket: sending, ending, flow, and what there is to know.

use std::net::SocketAddr;

use mantou_engine::{self as core, Written};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::waiters::{Goal, lost_bytes};
use super::{Cork, Ending, Phase, Socket};
use crate::buffers::Outgoing;
use crate::errors;
use crate::handlers::Handlers;
use crate::host;
use crate::settings;

#[pymethods]
impl Socket {
    // Sending

    /// Hands data to the kernel, as much as it takes right now.
    ///
    /// Nothing is kept: of what was not taken, the caller has to call again, when `drain` says
    /// that there is room. It is called once after a short write. With TLS the engine takes the
    /// bytes and seals them; before the handshake is done it takes none.
    ///
    /// Bun: `socket.write()`.
    ///
    /// :param data: a str, sent as UTF-8, or any C-contiguous buffer, which is not copied first.
    /// :param byte_offset: where in the data to begin, in bytes.
    /// :param byte_length: how many bytes of it; None for the rest.
    /// :returns: the number of bytes taken, 0 included; -1 when closed or after `end()`.
    /// :raises TypeError: the data is neither a str nor a C-contiguous buffer.
    /// :raises ValueError: offset or length are outside the data.
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
    fn write_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let outgoing = Outgoing::new(data)?;
        let bytes = outgoing.as_slice()?;
        self.with(data.py(), |core, token| core.write_all(token, bytes))?
            .map_err(|error| errors::from_write_all(&error, bytes.len()))
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
            let lost = lost_bytes(py).into_value(py).into_bound(py);
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

    // Ending

    /// Sends the last data and, once everything accepted is sent, FIN.
    ///
    /// With TLS `close_notify` goes before the FIN. All of the data is delivered, also if it has
    /// to wait. Reading goes on until the peer's FIN; where `allow_half_open` is False, a peer
    /// that makes no progress is cut off after `close_timeout` seconds.
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
    /// :raises ValueError: offset or length are outside the data.
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

    // Flow and time

    /// Stops reading application data, at once; not counted.
    ///
    /// A TLS handshake goes on, and so does writing. A FIN or RST that arrives meanwhile is
    /// reported after `resume()`, behind all data.
    ///
    /// Bun: `socket.pause()`.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, true))
    }

    /// Reads again after `pause()`.
    ///
    /// Bun: `socket.resume()`.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, false))
    }

    /// Sets the idle timeout, as the option `idle_timeout` does.
    ///
    /// Idle is a connection on which for so long no byte was read, taken by the kernel or
    /// acknowledged by the peer. Then the `timeout` handler is called and, unless it returns
    /// True, the connection closed: `close` gets a `TimeoutError`. In Bun nothing is closed.
    ///
    /// Bun: `socket.timeout()`.
    ///
    /// :param seconds: to the millisecond; 0 switches it off.
    /// :raises TypeError: not a number.
    /// :raises ValueError: negative or not finite.
    fn timeout(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let idle = settings::seconds(seconds, "seconds")?;
        let idle = (!idle.is_zero()).then_some(idle);
        self.with(seconds.py(), |core, token| {
            core.set_idle_timeout(token, idle);
        })
    }

    /// Sets `TCP_NODELAY`: small writes leave at once, unanswered ones do not hold them back.
    ///
    /// Bun: `socket.setNoDelay()`.
    ///
    /// :returns: whether it was set; False when closed, and for a unix socket.
    #[pyo3(signature = (no_delay=true))]
    fn set_no_delay(&self, py: Python<'_>, no_delay: bool) -> PyResult<bool> {
        let result = self.with(py, |core, token| core.set_no_delay(token, no_delay))?;
        Ok(result.is_ok())
    }

    /// Sets `SO_KEEPALIVE`: the kernel probes a silent peer.
    ///
    /// Bun: `socket.setKeepAlive()`, which takes milliseconds.
    ///
    /// :param initial_delay: seconds of silence before the first probe; 0 for the system's.
    /// :returns: whether it was set; False when closed.
    /// :raises TypeError: the delay is not a number.
    /// :raises ValueError: the delay is negative or not finite.
    #[pyo3(signature = (enable=false, initial_delay=None), text_signature = "(self, /, enable=False, initial_delay=0.0)")]
    fn set_keep_alive(
        &self,
        py: Python<'_>,
        enable: bool,
        initial_delay: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let delay = initial_delay.map(|delay| settings::seconds(delay, "initial_delay"));
        let delay = delay.transpose()?.unwrap_or_default();
        let result = self.with(py, |core, token| core.set_keep_alive(token, enable, delay))?;
        Ok(result.is_ok())
    }

    // Handlers and owner

    /// Replaces the handlers, from the next event on.
    ///
    /// For an accepted socket, those of its listener and of all the listener's sockets.
    ///
    /// Bun: `socket.reload()`.
    ///
    /// :param socket: the handlers, in any form that `connect()` takes.
    /// :raises TypeError: they are none, or one of them cannot be called as it will be.
    /// :raises ValueError: `binary_type` is none of the three.
    fn reload(&self, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = socket.py();
        self.with(py, |_, _| ())?;
        let handlers = Handlers::compile(socket)?;
        let own = self.handlers.with(py, |own| own.is_some());
        match &self.listener {
            Some(listener) if !own => listener.get().set_handlers(py, handlers),
            _ => drop(self.handlers.replace(py, Some(handlers))),
        }
        Ok(())
    }

    /// Lets it keep `run()` alive, as it does from the start.
    ///
    /// Bun: `socket.ref()`.
    #[pyo3(name = "ref")]
    fn reference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, true))
    }

    /// Lets `run()` end even while it is open.
    ///
    /// Bun: `socket.unref()`.
    #[pyo3(name = "unref")]
    fn unreference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, false))
    }

    /// What belongs to this connection: any object, given to `connect()` or by the listener.
    ///
    /// None until it is given. It can be set at any time.
    ///
    /// Bun: `socket.data`.
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.cloned(py).unwrap_or_else(|| py.None())
    }

    #[setter]
    pub fn set_data(&self, py: Python<'_>, data: Py<PyAny>) {
        drop(self.data.replace(py, Some(data)));
    }

    /// The listener that accepted it; None for a socket that was connected.
    ///
    /// Bun: `socket.listener`.
    #[getter]
    fn listener(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.listener.as_ref()?.get().owner(py)
    }

    // What there is to know

    /// How far the connection has come: a `ReadyState`.
    ///
    /// Bun: `socket.readyState`.
    #[getter]
    fn ready_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        self.with(py, |_, _| ())?;
        let number = self.state_number(py)?;
        CLASS
            .import(py, "mantou._ready_state", "ReadyState")?
            .call1((number,))
    }

    /// The IP address at our end; None for a unix socket.
    ///
    /// Bun: `socket.localAddress`.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .local
            .map(|local| local.ip().to_string()))
    }

    /// The port at our end; None for a unix socket.
    ///
    /// Bun: `socket.localPort`.
    #[getter]
    fn local_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.local.map(|local| local.port()))
    }

    /// The family of the address at our end, "IPv4" or "IPv6"; None for a unix socket.
    ///
    /// Bun: `socket.localFamily`.
    #[getter]
    fn local_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.local.map(family))
    }

    /// The peer's IP address; None for a unix socket.
    ///
    /// Bun: `socket.remoteAddress`.
    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .remote
            .map(|remote| remote.ip().to_string()))
    }

    /// The peer's port; None for a unix socket.
    ///
    /// Bun: `socket.remotePort`.
    #[getter]
    fn remote_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.remote.map(|remote| remote.port()))
    }

    /// The family of the peer's address, "IPv4" or "IPv6"; None for a unix socket.
    ///
    /// Bun: `socket.remoteFamily`.
    #[getter]
    fn remote_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.remote.map(family))
    }

    /// Bytes received so far, of the application's data.
    ///
    /// Not in Bun.
    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.0)
    }

    /// Bytes sent so far, of the application's data.
    ///
    /// Bun: `socket.bytesWritten`.
    #[getter]
    fn bytes_written(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.1)
    }

    /// The descriptor, which stays the socket's own; -1 once closed.
    ///
    /// Not in Bun.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self
            .with(py, |core, token| core.raw_fd(token))?
            .unwrap_or(-1))
    }

    /// A future that is done once `close` has been called.
    fn _closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.wait_for(py, Goal::Closed)?;
        if matches!(self.phase.get(py), Phase::Closed | Phase::Failed) {
            self.settle_closed(py, None);
        }
        Ok(future)
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with(exception.py(), |core, token| core.end(token, &[]))
            .map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.state_number(py)? {
            -2 => "shut down",
            -1 => "detached",
            0 => "closed",
            1 => "established",
            _ => "connecting",
        };
        let remote = self.endpoints(py)?.remote;
        let remote = remote
            .map(|remote| format!(" remote={remote}"))
            .unwrap_or_default();
        Ok(format!("<mantou.Socket {state}{remote}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)?;
        visit.call(&self.listener)?;
        self.handlers.traverse(&visit, |it, visit| visit.call(it))?;
        self.data.traverse(&visit, |it, visit| visit.call(it))?;
        self.failure.traverse(&visit, |it, visit| visit.call(it))?;
        self.driver.traverse(&visit, |it, visit| visit.call(it))?;
        self.driver_error
            .traverse(&visit, |it, visit| visit.call(it))?;
        self.raw.traverse(&visit, |it, visit| visit.call(it))?;
        self.context.traverse(&visit)?;
        self.ending
            .traverse(&visit, |ending, visit| match ending.as_deref() {
                Some(Ending::Own { error, .. }) => visit.call(error),
                Some(Ending::With(socket)) => visit.call(socket),
                None => Ok(()),
            })?;
        self.waiters.traverse(&visit, |waiters, visit| {
            waiters
                .iter()
                .try_for_each(|(_, future)| visit.call(future))
        })
    }

    fn __clear__(&self) {
        drop(self.handlers.take());
        drop(self.data.take());
        drop(self.failure.take());
        drop(self.driver.take());
        drop(self.driver_error.take());
        drop(self.raw.take());
        drop(self.ending.take());
        drop(self.waiters.take());
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

fn family(address: SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}
