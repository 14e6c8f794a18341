//! Connections that begin with a PROXY header: let in for whom they come, or turned away.

use mantou_engine::{ProxyError, Token};
use pyo3::prelude::*;

use super::beginnings::{accepted, new_socket};
use super::endings::connect_failed;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::tls::Way;

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
    let let_in = || -> PyResult<_> {
        outcome.map_err(|error| errors::from_proxy(py, &error))?;
        let tls = listener.get().tls(py);
        let way = tls.map(|tls| Way::of(tls.bind(py))).transpose()?;
        let acceptor = way.as_ref().map(Way::acceptor);
        let core = &engine.get().core;
        core.with(|core| core.let_in(token, acceptor.as_ref()))?
            .map_err(|error| errors::from_proxy(py, &error))
    };
    match let_in() {
        Ok(header) => accepted(engine, &listener, token, header),
        Err(error) => turn_away(engine, &listener, token, &error),
    }
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
