//! Connections that begin with a PROXY header: let in for whom they come, or turned away.

use mantou_engine::{ProxyError, Token};
use pyo3::prelude::*;

use super::beginnings::{NO_TLS, accepted, new_socket, report_unhandled, too_many_of_a_host};
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
    let why = match let_in() {
        Ok(Ok(header)) => return accepted(engine, &listener, token, header),
        Ok(Err(ProxyError::TooMany)) => return refuse(engine, &listener, token),
        Ok(Err(error)) => Ok(errors::from_proxy(py, &error)),
        // What the listener's `tls` came to.
        Err(error) => Err(error),
    };
    turn_away(engine, &listener, token, why)
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

/// `Ok` for what its peer has done, `Err` for what went wrong here.
fn turn_away(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
    why: Result<PyErr, PyErr>,
) -> PyResult<()> {
    let py = engine.py();
    let socket = new_socket(engine, listener)?;
    let farewell = engine.get().core.with(|core| core.turn_away(token))?;
    socket.get().finish(py, farewell);
    listener.get().remove_connection(py);
    let error = match why {
        Ok(error) => {
            let error = errors::value_of(py, &error);
            engine.get().host.turned_away(&socket, &error);
            error
        }
        Err(error) => {
            report_unhandled(engine, &socket, NO_TLS, &error);
            errors::value_of(py, &error)
        }
    };
    connect_failed(engine, &socket, &error);
    engine.get().check_fatal(py)
}
