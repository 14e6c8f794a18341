//! How connections begin: accepted, opened, secured, or refused.

use mantou_engine::proxy::Header;
use mantou_engine::{Accepted, Limit, Token};
use pyo3::prelude::*;

use super::calls::{Watch, call, has_handler, leaves_the_loop};
use super::endings::connect_failed;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::socket::{Intake, Socket};
use crate::stage::Stage;
use crate::tls;
use crate::totals::Fact;

/// Connections that one listener gets in one turn.
const ACCEPT_LIMIT: usize = 1024;

pub(super) const NO_TLS: &str = "TLS could not begin";

pub(super) fn accept(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    let this = engine.get();
    for _ in 0..ACCEPT_LIMIT {
        match this.core.with(|core| core.accept(token))? {
            Accepted::Stream(stream) => {
                listener.get().add_connection(py);
                accepted(engine, listener, stream, None)?;
            }
            Accepted::Greeting(greeting) => {
                // Until it was heard it is its listener's.
                listener.get().add_connection(py);
                this.set_owner(py, greeting, listener);
            }
            Accepted::Empty => break,
            Accepted::Refused => too_many_of_a_host(engine, listener),
            Accepted::AtLimit(limit) => {
                let name = match limit {
                    Limit::Connections => "max_connections",
                    Limit::Rate => "accept_rate",
                    Limit::Handshakes => "max_handshakes",
                };
                at_limit(engine, listener, Fact::AtLimit(limit), name);
                break;
            }
            Accepted::Starved(error, first) => {
                if first {
                    listener.get().count(py, Fact::Starved);
                    starved(engine, listener, &errors::from_io(&error))?;
                }
                break;
            }
            Accepted::Failed(error) => {
                let error = errors::from_io(&error);
                let owner = listener.get().owner(py);
                let owner = owner.as_ref().map(|owner| owner.bind(py));
                this.host
                    .report(py, "a listener broke and was stopped", &error, owner);
                return listener.get().stop_accepting(py);
            }
        }
    }
    Ok(())
}

pub(super) fn too_many_of_a_host(engine: &Bound<'_, Engine>, listener: &Bound<'_, Listener>) {
    at_limit(engine, listener, Fact::Refused, "max_connections_per_host");
}

/// A limit has had its effect. The log names it the first time: who comes next must cost little.
fn at_limit(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    fact: Fact<'_>,
    name: &str,
) {
    let py = engine.py();
    let first = listener.get().count(py, fact) == 1;
    if first && let Some(owner) = listener.get().owner(py) {
        engine.get().host.at_limit(owner.bind(py), name);
    }
}

/// Descriptors ran out: asyncio's servers tell the loop's exception handler.
fn starved(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    error: &PyErr,
) -> PyResult<()> {
    let py = engine.py();
    match listener.get().owner(py) {
        Some(acceptor) if listener.get().handlers(py).is_none() => {
            let error = errors::value_of(py, error);
            acceptor.call_method1(py, "starved", (error,)).map(drop)
        }
        _ => {
            engine.get().host.starved(py, error);
            Ok(())
        }
    }
}

pub(super) fn accepted(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
    proxy: Option<Box<Header>>,
) -> PyResult<()> {
    let py = engine.py();
    let from = listener.get();
    let socket = new_socket(engine, listener)?;
    if proxy.is_some() {
        socket.get().set_proxy(py, proxy);
    }
    engine.get().set_owner(py, token, &socket);
    if let Some(settings) = from.tls(py) {
        match tls::server_driver(py, &engine.get().bios, settings.bind(py)) {
            Ok(driver) => socket.get().set_driver(py, driver),
            Err(error) => {
                return refuse(engine, &socket, token, NO_TLS, &error);
            }
        }
    }
    if let Some(factory) = from.data_factory(py) {
        // It may ask who is there.
        socket.get().start(py, token);
        let made = socket.get().context().enter(py).and_then(|_entered| {
            let factory = factory.bind(py);
            let watch = Watch::start(engine);
            let made = factory.call1((&socket,));
            watch.stop(engine, &socket, "data_factory", factory);
            made
        });
        match made {
            Ok(data) => socket.get().set_data(py, data.unbind()),
            Err(error) => {
                let what = "data_factory raised an exception";
                return refuse(engine, &socket, token, what, &error);
            }
        }
    }
    opened(engine, &socket, token)?;
    if from.closes_all(py) {
        // Stopped by its factory, before it could be told.
        socket.get().close(py)?;
    }
    Ok(())
}

/// For a connection that a listener has accepted.
pub(super) fn new_socket<'py>(
    engine: &Bound<'py, Engine>,
    listener: &Bound<'py, Listener>,
) -> PyResult<Bound<'py, Socket>> {
    let py = engine.py();
    let socket = Socket::new(
        engine.clone().unbind(),
        None,
        Some(listener.clone().unbind()),
        listener.get().data(py),
        "localhost",
        listener.get().context().copy(py)?,
    );
    Bound::new(py, socket)
}

/// Lets go of an accepted connection that never opened.
fn refuse(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
    what: &str,
    why: &PyErr,
) -> PyResult<()> {
    let py = engine.py();
    if engine.get().take_owner(py, token).is_some() {
        let farewell = engine.get().core.with(|core| {
            core.terminate(token);
            core.release(token)
        })?;
        socket.get().finish(py, farewell);
        if let Some(listener) = socket.get().native_listener(py) {
            listener.get().remove_connection(py);
        }
    }
    if leaves_the_loop(py, why) {
        socket.get().fail(py);
        return Err(why.clone_ref(py));
    }
    report_unhandled(engine, socket, what, why);
    connect_failed(engine, socket, errors::value_of(py, why).as_any());
    Ok(())
}

/// What went wrong here is for somebody to hear.
pub(super) fn report_unhandled(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    what: &str,
    why: &PyErr,
) {
    if !has_handler(socket, Stage::ConnectError) {
        engine
            .get()
            .host
            .report(engine.py(), what, why, Some(socket));
    }
}

/// The transport is there: calls `open`, unless that has to wait for a TLS handshake.
pub fn opened(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    let core = &engine.get().core;
    let beginning =
        |core: &mut mantou_engine::Engine| (core.is_handshaking(token), core.is_framed(token));
    let (secure, framed) = core.with(beginning)?;
    if framed {
        socket.get().set_intake(py, Intake::Packets);
    }
    if secure && !has_handler(socket, Stage::Handshake) {
        socket.get().start_handshake(py, token);
    } else {
        open(engine, socket, token)?;
    }
    socket.get().forget_tls_start(py);
    if socket.get().owns(py, token) {
        core.with(|core| core.begin_handshake(token))?;
    }
    engine.get().check_fatal(py)
}

/// The connection can be used.
fn open(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, token: Token) -> PyResult<()> {
    let py = engine.py();
    socket.get().start(py, token);
    call(engine, socket, Stage::Open, (socket,));
    match socket.get().native_listener(py) {
        // The others were told when that began.
        Some(listener) if listener.get().drains(py) => draining(engine, socket),
        _ => Ok(()),
    }
}

/// Tells a socket, if it is open, that its listener drains.
pub fn draining(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) -> PyResult<()> {
    let py = engine.py();
    // Streams have no such thing: whoever serves them hears of its own drain().
    if has_handler(socket, Stage::Draining)
        && socket.get().was_opened(py)
        && socket.get().is_open(py)?
    {
        call(engine, socket, Stage::Draining, (socket,));
    }
    engine.get().check_fatal(py)
}

/// The TLS handshake is done.
pub(super) fn on_established(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    socket.get().count(py, Fact::Established);
    if socket.get().is_shaking_hands(py) {
        open(engine, socket, token)?;
    } else if has_handler(socket, Stage::Handshake) {
        let error = socket.get().authorization_error(py)?;
        call(engine, socket, Stage::Handshake, (socket, true, error));
    }
    socket.get().settle_ready(py)
}
