//! How Python closes things: all at once, a listener with its connections, an attempt given up.

use mantou_engine as core;
use pyo3::prelude::*;

use crate::dispatch;
use crate::engine::Engine;
use crate::listener::Listener;
use crate::socket::Socket;

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
        dispatch::end_all(this)?;
        this.get().check_fatal(py)
    }
}

#[pymethods]
impl Listener {
    fn stop(this: &Bound<'_, Self>, close_active_connections: bool) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        listener.stop_accepting(py)?;
        if close_active_connections {
            listener.closes_all.replace(py, true);
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
