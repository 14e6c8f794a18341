//! `connect()` where there is nothing to wait for, as there mostly is not to an address of this
//! machine: from options that are known to an open socket in one call.

use mantou_engine as core;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::attempt::Attempt;
use crate::context::Context;
use crate::engine::Engine;
use crate::errors;
use crate::handlers::Handlers;
use crate::opening;
use crate::socket::Socket;
use crate::ways::{Direct, Given};

/// How far a connection came at once.
type Begun<'py> = (Option<Py<Attempt>>, Option<Bound<'py, PyAny>>);

/// Connects by options that were checked before. Returns the socket; if there is more to wait for,
/// all that is known of it: the engine, the socket, the `Way`, the attempt that is under way, or
/// else the future of `Attempt.establish()`. None where options are to be looked at first.
#[pyfunction]
#[pyo3(signature = (options, /))]
pub fn connect_at_once<'py>(options: &Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = options.py();
    let Some(given) = Given::of(options)? else {
        return Ok(None);
    };
    let (Some(handlers), true, Some(known)) = (&given.handlers, given.is_bare, given.known()?)
    else {
        return Ok(None);
    };
    let Some(direct) = &known.direct else {
        return Ok(None);
    };
    let handlers = Handlers::compile(handlers)?;
    let engine = Engine::running(py)?;
    engine.get().check_open(py)?;
    let socket = Socket::new(
        engine.clone().unbind(),
        Some(handlers),
        None,
        given.data.map_or_else(|| py.None(), Bound::unbind),
        &direct.hostname,
        Context::current(py)?,
    );
    let socket = Bound::new(py, socket)?;
    match begin(&engine, &socket, direct) {
        Ok((None, None)) => Ok(Some(socket.into_any())),
        Ok((attempt, waiting)) => {
            let way = known.way.bind(py);
            let begun = (&engine, &socket, way, attempt, waiting).into_pyobject(py)?;
            Ok(Some(begun.into_any()))
        }
        Err(error) if error.is_instance_of::<PyException>(py) => {
            static NOT_CONNECTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let tell = NOT_CONNECTED.import(py, "mantou._connect", "not_connected")?;
            let error = errors::value_of(py, &error);
            let why = tell.call1((&engine, &socket, known.way.bind(py), error))?;
            Err(PyErr::from_value(why))
        }
        Err(error) => Err(error),
    }
}

fn begin<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    direct: &Direct,
) -> PyResult<Begun<'py>> {
    let py = engine.py();
    let attempt = core::Attempt::tcp(direct.address, None).map_err(|it| errors::from_io(&it))?;
    let add = |core: &mut core::Engine| core.add_attempt(attempt, direct.timeout);
    let added = engine.get().core.with(add)?;
    let (token, connected) = added.map_err(|error| errors::from_io(&error))?;
    if !connected {
        let attempt = opening::followed(engine, token)?;
        return Ok((Some(attempt), None));
    }
    let settings = direct.settings.clone();
    let waiting = opening::establish(engine, token, socket, settings, None, None)?;
    Ok((None, waiting.map(|waiting| waiting.into_bound(py))))
}
