//! What users see of a socket: flow, owner, and what there is to know. Beside it: `sending.rs`,
//! `tls.rs`, `certificates.rs`.

use std::net::SocketAddr;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::waiters::Goal;
use super::{Ending, Socket};
use crate::handlers::Handlers;
use crate::proxy;
use crate::settings;

#[pymethods]
impl Socket {
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
    /// Where `dead_after` is set it does so already, and that is changed.
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

    /// How a proxy has introduced this connection: a `ProxyHeader`.
    ///
    /// None without one, as in front of a listener without `proxy_protocol`. An upgraded socket has
    /// that of the plain one.
    ///
    /// Not in Bun.
    #[getter]
    fn proxy<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let header = self.proxy_header(py);
        header.map(|header| proxy::shown(py, &header)).transpose()
    }

    /// Bytes received so far, of the application's data; of packets with all that is cut off.
    ///
    /// Not in Bun.
    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.0)
    }

    /// Bytes sent so far, of the application's data; of packets with their lengths.
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

    /// To be awaited: returns when `close` has run, to its end if it is async.
    ///
    /// For a connection that never opened, when `connect_error` has. Why it ended is what those
    /// were told.
    ///
    /// Not in Bun.
    ///
    /// :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
    fn closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_for_end(py, Goal::Closed)
    }

    /// A future that is done once `close` has been called.
    fn _told_closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_for_end(py, Goal::Told)
    }

    fn __aenter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.get().done(this.py(), this.as_any())
    }

    #[pyo3(signature = (*exception))]
    fn __aexit__<'py>(&self, exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__exit__(exception)?;
        self.closed(exception.py())
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
        self.origin.traverse(&visit, |it, visit| match it {
            Some(it) => visit.call(&it.raw),
            None => Ok(()),
        })?;
        self.context.traverse(&visit)?;
        self.ending
            .traverse(&visit, |ending, visit| match ending.as_deref() {
                Some(Ending::Own { error, .. }) => visit.call(error),
                Some(Ending::With(socket)) => visit.call(socket),
                Some(Ending::LastWords) | None => Ok(()),
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
        drop(self.origin.take());
        drop(self.ending.take());
        drop(self.waiters.take());
    }
}

fn family(address: SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}
