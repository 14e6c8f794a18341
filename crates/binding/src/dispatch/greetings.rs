//! Connections that begin with a PROXY header: let in for whom they come, or turned away.

use mantou_engine::{ProxyError, Token};
use pyo3::prelude::*;

use super::beginnings::{accepted, new_socket, too_many_of_a_host};
use super::endings::connect_failed;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::tls::Way;
use crate::totals::Fact;

/// An accepted connection was heard: it begins like any other, or never does.
pub(super) fn greeted(
    engine: &Bound<'_, Engine>,
    token: Token,
    outcome: Result<(), ProxyError>,
) -> PyResult<()> {
    let py = engine.py();
    let Some(listener) = engine.get().owner::<Listener>(py, token) else {
        return Ok(());
    };
    drop(engine.get().take_owner(py, token));
    let outcome = match outcome {
        Ok(()) if engine.get().ended.get(py) => Err(ProxyError::Cancelled),
        heard => heard,
    };
    let let_in = || {
        if let Err(error) = outcome {
            return Ok(Err(error));
        }
        let tls = listener.get().tls(py);
        let way = tls.map(|tls| Way::of(tls.bind(py))).transpose()?;
        let acceptor = way.as_ref().map(Way::acceptor);
        let core = &engine.get().core;
        core.with(|core| core.let_in(token, acceptor.as_ref()))
    };
    match let_in() {
        Ok(Ok(header)) => accepted(engine, &listener, token, header),
        Ok(Err(ProxyError::TooMany)) => refuse(engine, &listener, token),
        Ok(Err(error)) => {
            let error = errors::from_proxy(py, &error);
            turn_away(engine, &listener, token, &error)
        }
        // What the listener's `tls` came to.
        Err(error) => turn_away(engine, &listener, token, &error),
    }
}

/// There are enough of its client's host: no handler hears of it.
fn refuse(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    let farewell = engine.get().core.with(|core| core.turn_away(token))?;
    listener.get().count(py, Fact::Closed(&farewell));
    listener.get().remove_connection(py);
    too_many_of_a_host(engine, listener);
    Ok(())
}

fn turn_away(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
    why: &PyErr,
) -> PyResult<()> {
    let py = engine.py();
    let socket = new_socket(engine, listener)?;
    let farewell = engine.get().core.with(|core| core.turn_away(token))?;
    socket.get().finish(py, farewell);
    listener.get().remove_connection(py);
    connect_failed(engine, &socket, errors::value_of(py, why).as_any());
    engine.get().check_fatal(py)
}
