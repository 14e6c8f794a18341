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
use crate::dispatch;
use crate::errors;
use crate::handlers::Handlers;
use crate::host;
use crate::settings;

#[pymethods]
impl Socket {
    // Sending

    /// Hands data to the kernel, as much as it takes right now.
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

    /// Takes everything, sends what it can and queues the rest.
    fn write_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let outgoing = Outgoing::new(data)?;
        let bytes = outgoing.as_slice()?;
        self.with(data.py(), |core, token| core.write_all(token, bytes))?
            .map_err(|error| errors::from_write_all(&error, bytes.len()))
    }

    /// A future that is done once everything accepted so far is in the kernel.
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

    /// Bytes accepted and not yet in the kernel.
    #[getter]
    fn buffered(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, core::Engine::buffered)
    }

    /// A context whose writes leave together.
    fn cork(this: Bound<'_, Self>) -> Cork {
        Cork(this.unbind())
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::flush)
    }

    // Ending

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

    #[pyo3(signature = (half_close=false))]
    fn shutdown(&self, py: Python<'_>, half_close: bool) -> PyResult<()> {
        if half_close {
            self.with(py, core::Engine::stop_reading)
        } else {
            self.with(py, core::Engine::shutdown)
        }
    }

    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::close_gracefully)
    }

    pub fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::terminate)
    }

    // Flow and time

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, true))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, false))
    }

    fn timeout(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let idle = settings::seconds(seconds, "seconds")?;
        let idle = (!idle.is_zero()).then_some(idle);
        self.with(seconds.py(), |core, token| {
            core.set_idle_timeout(token, idle);
        })
    }

    #[pyo3(signature = (no_delay=true))]
    fn set_no_delay(&self, py: Python<'_>, no_delay: bool) -> PyResult<bool> {
        let result = self.with(py, |core, token| core.set_no_delay(token, no_delay))?;
        Ok(result.is_ok())
    }

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

    /// Replaces the handlers, of the whole listener for an accepted socket.
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

    #[pyo3(name = "ref")]
    fn reference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, true))
    }

    #[pyo3(name = "unref")]
    fn unreference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, false))
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.cloned(py).unwrap_or_else(|| py.None())
    }

    #[setter]
    pub fn set_data(&self, py: Python<'_>, data: Py<PyAny>) {
        drop(self.data.replace(py, Some(data)));
    }

    #[getter]
    fn listener(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.listener.as_ref()?.get().owner(py)
    }

    // What there is to know

    #[getter]
    fn ready_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        self.with(py, |_, _| ())?;
        let number = self.state_number(py)?;
        CLASS
            .import(py, "mantou._ready_state", "ReadyState")?
            .call1((number,))
    }

    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .local
            .map(|local| local.ip().to_string()))
    }

    #[getter]
    fn local_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.local.map(|local| local.port()))
    }

    #[getter]
    fn local_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.local.map(family))
    }

    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .remote
            .map(|remote| remote.ip().to_string()))
    }

    #[getter]
    fn remote_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.remote.map(|remote| remote.port()))
    }

    #[getter]
    fn remote_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.remote.map(family))
    }

    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.0)
    }

    #[getter]
    fn bytes_written(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.1)
    }

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

    /// Gives up a connection whose `connect()` was cancelled. If it was opened, `close` is called
    /// now; else nobody was told of it, and nobody will be.
    fn _abandon(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let socket = this.get();
        let token = socket.token.get(py);
        socket.with(py, core::Engine::terminate)?;
        if !socket.is_shaking_hands(py) {
            return dispatch::conclude_end(socket.engine.bind(py), token);
        }
        let farewell = socket.with(py, core::Engine::release)?;
        drop(socket.engine.get().take_owner(py, token));
        socket.finish(py, farewell);
        socket.fail(py);
        Ok(())
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
