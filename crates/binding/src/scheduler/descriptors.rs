//! The descriptors of `add_reader()` and `add_writer()`, in the queue of the engine's own.

use std::os::fd::RawFd;

use mantou_engine::{Interest, Target, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::{Scheduler, Watch};
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::socket::Socket;
use crate::work::Work;

/// The selector's bits, as Python's `selectors` has them.
const EVENT_READ: u32 = 1;
const EVENT_WRITE: u32 = 2;

#[pymethods]
impl Scheduler {
    /// Has a descriptor watched, or what is watched of it changed: `data` are the handles to call.
    fn _watch(
        &self,
        py: Python<'_>,
        fd: RawFd,
        events: u32,
        data: (Option<Py<PyAny>>, Option<Py<PyAny>>),
    ) -> PyResult<()> {
        let engine = self.engine(py)?;
        let poller = &engine.get().poller;
        let is_known = self.watches.with(py, |watches| watches.contains_key(&fd));
        let changed = if is_known {
            poller.modify_foreign(fd, interest(events))
        } else if poller.is_member(fd) {
            return Err(in_use(engine.get(), py, fd)?);
        } else {
            poller.add_foreign(fd, interest(events))
        };
        if changed.is_err() {
            // As asyncio's own selectors do: what cannot be watched is not registered any more.
            drop(self.watches.with(py, |watches| watches.remove(&fd)));
        }
        changed.map_err(|error| errors::from_io(&error))?;
        let (reader, writer) = data;
        let watch = Watch { reader, writer };
        drop(self.watches.with(py, |watches| watches.insert(fd, watch)));
        Ok(())
    }

    /// Has a descriptor not watched any more.
    fn _unwatch(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        drop(self.watches.with(py, |watches| watches.remove(&fd)));
        // Closed before: the kernel has forgotten it already, and one of our sockets that has its
        // number now stays.
        let _ = self.engine(py)?.get().poller.remove_foreign(fd);
        Ok(())
    }

    /// Whether a descriptor that was watched is one of our sockets' now: it is not any more, then.
    fn _forget_stale(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        let is_ours = self.engine(py)?.get().poller.is_member(fd);
        if is_ours {
            drop(self.watches.with(py, |watches| watches.remove(&fd)));
        }
        Ok(is_ours)
    }

    /// Refuses the descriptor of a transport, unless that is closing.
    fn _check_no_transport(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        let Some(engine) = self.engine.cloned(py) else {
            return Ok(());
        };
        let engine = engine.get();
        if !engine.poller.is_member(fd) {
            return Ok(());
        }
        match transport_of(engine, py, fd)? {
            Some(transport) if !is_closing(&transport)? => Err(in_use(engine, py, fd)?),
            _ => Ok(()),
        }
    }
}

impl Scheduler {
    /// Enters the callbacks of the descriptors that a wait found ready.
    pub(super) fn take_foreign(this: &Bound<'_, Self>, work: &Work) -> PyResult<()> {
        for index in 0..work.events.len() {
            if let Some((Target::Foreign(fd), ready)) = work.events.target(index) {
                if ready.readable {
                    Self::enter(this, fd, intern!(this.py(), "_remove_reader"), |it| {
                        &it.reader
                    })?;
                }
                if ready.writable {
                    Self::enter(this, fd, intern!(this.py(), "_remove_writer"), |it| {
                        &it.writer
                    })?;
                }
            }
        }
        Ok(())
    }

    fn enter(
        this: &Bound<'_, Self>,
        fd: RawFd,
        remove: &Bound<'_, pyo3::types::PyString>,
        which: impl Fn(&Watch) -> &Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        let handle = this.get().watches.with(py, |watches| {
            let handle = watches.get(&fd).and_then(|watch| which(watch).as_ref());
            handle.map(|handle| handle.clone_ref(py))
        });
        let Some(handle) = handle else {
            return Ok(());
        };
        let handle = handle.bind(py);
        if handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
            this.call_method1(remove, (fd,))?;
        } else {
            this.get().push(handle);
        }
        Ok(())
    }
}

/// The error of whoever wants to watch a descriptor of ours; in asyncio's words.
fn in_use(engine: &Engine, py: Python<'_>, fd: RawFd) -> PyResult<PyErr> {
    let token = holder(engine, fd)?;
    let user = if let Some(transport) = transport_of(engine, py, fd)? {
        transport.repr()?.to_string()
    } else if let Some(socket) = engine.owner::<Socket>(py, token) {
        socket.repr()?.to_string()
    } else if let Some(owner) = engine
        .owner::<Listener>(py, token)
        .and_then(|it| it.get().owner(py))
    {
        owner.bind(py).repr()?.to_string()
    } else {
        "that is opening or closing".to_owned()
    };
    Ok(PyRuntimeError::new_err(format!(
        "File descriptor {fd} is used by transport {user}"
    )))
}

fn transport_of<'py>(
    engine: &Engine,
    py: Python<'py>,
    fd: RawFd,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let socket = engine.owner::<Socket>(py, holder(engine, fd)?);
    let handlers = socket.and_then(|socket| socket.get().current_handlers(py));
    let transport = handlers.as_ref().and_then(|it| it.get().transport());
    Ok(transport.map(|transport| transport.bind(py).clone()))
}

fn holder(engine: &Engine, fd: RawFd) -> PyResult<Token> {
    let holder = engine.core.with(|core| core.holder(fd))?;
    Ok(holder.unwrap_or(Token::NONE))
}

fn is_closing(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    transport
        .call_method0(intern!(transport.py(), "is_closing"))?
        .is_truthy()
}

fn interest(events: u32) -> Interest {
    Interest {
        readable: events & EVENT_READ != 0,
        writable: events & EVENT_WRITE != 0,
        errors: true,
    }
}
