//! How Python closes things: all at once, in a forked child, a listener with its connections, an
//! attempt given up.

use mantou_engine as core;
use pyo3::intern;
use pyo3::prelude::*;

use crate::dispatch;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::socket::Socket;
use crate::totals;

#[pymethods]
impl Engine {
    /// The coroutines of a closed socket do not end: it is told of its end all the same.
    fn end_without_waiting(this: &Bound<'_, Self>, socket: &Bound<'_, Socket>) -> PyResult<()> {
        dispatch::end_without_waiting(this, socket)?;
        this.get().check_fatal(this.py())
    }

    /// Ends everything: listeners stop, what is open is terminated and told so.
    fn end(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        this.get().ended.replace(py, true);
        this.get().host.forget_reserve(py);
        dispatch::end_all(this)?;
        this.get().check_fatal(py)
    }

    /// In a forked child: parts from the parent's queue and connections. An engine that no loop
    /// has run keeps its listeners; any other is the parent's. True if that leaves listeners behind.
    fn begin_anew(&self, py: Python<'_>) -> PyResult<bool> {
        let waits = self.host.is_awaited(py);
        // Whichever thread ran the loop: the one that forked is the only one here.
        for socket in self.owners::<Socket>(py) {
            let socket = socket.get();
            let token = socket.token(py);
            let farewell = self.core.ask(py, |core| core.farewell(token))?;
            socket.finish(py, farewell);
            if let Some(handlers) = socket.current_handlers(py)
                && let Some(transport) = handlers.get().transport()
            {
                // The descriptor is closed here: its number is not for the socket object to close.
                transport.call_method0(py, intern!(py, "_forget_file"))?;
            }
        }
        totals::forget(py);
        let begun = self.core.ask(py, |core| {
            let leaves = !waits && core.has_listeners();
            core.begin_anew(waits).map(|()| leaves)
        });
        if !waits || !matches!(begun, Ok(Ok(_))) {
            self.core.leave_behind();
        }
        begun?.map_err(|error| errors::from_io(&error))
    }
}

#[pymethods]
impl Listener {
    /// Tells its connections that they are to come to an end: those that are open now, and others
    /// when they open. The second time nobody is told anything.
    fn begin_drain(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        let engine = listener.engine.bind(py);
        engine.get().core.with(|_| ())?;
        if !listener.drains.replace(py, true) {
            for socket in engine.get().owners::<Socket>(py) {
                if socket.get().came_from(py, this) {
                    dispatch::draining(engine, &socket)?;
                }
            }
        }
        Ok(())
    }

    /// Terminates what is open of it, and tells how many those were.
    fn cut(this: &Bound<'_, Self>) -> PyResult<usize> {
        let py = this.py();
        let engine = this.get().engine.get();
        let mut cut = this.get().cancel_greetings(this)?;
        for socket in engine.owners::<Socket>(py) {
            if socket.get().came_from(py, this) {
                let open = socket.get().is_open(py)?;
                socket.get().with(py, core::Engine::terminate)?;
                cut += usize::from(open);
            }
        }
        Ok(cut)
    }

    fn stop(this: &Bound<'_, Self>, close_active_connections: bool) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        listener.stop_accepting(py)?;
        if close_active_connections {
            listener.cancel_greetings(this)?;
            for socket in listener.engine.get().owners::<Socket>(py) {
                let socket = socket.get();
                if socket.came_from(py, this) {
                    socket.close(py)?;
                }
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Turns away those that have not come to be sockets yet, and tells how many those were.
    fn cancel_greetings(&self, this: &Bound<'_, Self>) -> PyResult<usize> {
        let py = this.py();
        self.closes_all.replace(py, true);
        let engine = self.engine.get();
        let mut cancelled = 0;
        for token in engine.tokens_of(py, this) {
            cancelled += usize::from(engine.core.with(|core| core.cancel_greeting(token))?);
        }
        Ok(cancelled)
    }
}

#[pymethods]
impl Socket {
    /// Gives up a connection whose `connect()` was cancelled. If it was opened, `close` is called
    /// now; else nobody was told of it, and nobody will be.
    fn _abandon(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let socket = this.get();
        let engine = socket.engine().bind(py);
        let token = socket.token(py);
        socket.with(py, core::Engine::terminate)?;
        if !socket.is_shaking_hands(py) {
            return dispatch::conclude_end(engine, token);
        }
        let farewell = socket.with(py, core::Engine::release)?;
        drop(engine.get().take_owner(py, token));
        socket.finish(py, farewell);
        socket.fail(py);
        Ok(())
    }
}
