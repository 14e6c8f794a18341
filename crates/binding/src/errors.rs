//! The one place where the engine's errors become Python exceptions.

use std::io;

use mantou_engine::tls::{TlsError, VerifyError};
use mantou_engine::{CloseReason, ProxyError, WriteAllError};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{
    PyBaseException, PyBrokenPipeError, PyBufferError, PyConnectionAbortedError, PyConnectionError,
    PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

/// `OSError(errno, text)`, which Python turns into the right subclass.
pub fn from_io(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, describe(errno))),
        None => PyOSError::new_err(error.to_string()),
    }
}

pub fn timed_out(what: &str) -> PyErr {
    PyTimeoutError::new_err((libc::ETIMEDOUT, what.to_owned()))
}

/// What took longer than we were willing to wait; the kernel's own time-outs have an errno.
pub fn late() -> PyErr {
    PyTimeoutError::new_err(())
}

pub fn from_write_all(error: &WriteAllError, given: usize) -> PyErr {
    match *error {
        WriteAllError::Closed => {
            PyBrokenPipeError::new_err((libc::EPIPE, "the socket is ended or closed"))
        }
        WriteAllError::TooLong { longest } => packet_too_long(given, longest),
        WriteAllError::OverLimit { waiting, limit } => PyBufferError::new_err(format!(
            "{given} bytes on top of {waiting} that wait would exceed write_limit={limit}"
        )),
        WriteAllError::Uncountable { waiting } => PyBufferError::new_err(format!(
            "{given} bytes on top of {waiting} that wait are more than can be counted"
        )),
    }
}

/// The `error` argument of the `close` handler.
pub fn from_close(py: Python<'_>, reason: &CloseReason) -> Option<Py<PyAny>> {
    let error = match reason {
        CloseReason::Finished | CloseReason::Clean => return None,
        CloseReason::Io(error) => from_io(error),
        CloseReason::Tls(error) => from_tls(py, error),
        CloseReason::HandshakeTimedOut => handshake_timeout(py),
        CloseReason::Abandoned => aborted("the event loop ended before everything was sent"),
        CloseReason::PartnerBroke => {
            aborted("the socket that it was piped to ended before its time")
        }
        CloseReason::TimedOut(what) => timed_out(what),
    };
    Some(value(py, error).into_any())
}

/// Why a connection that was to begin with a PROXY header was turned away.
pub fn from_proxy(py: Python<'_>, error: &ProxyError) -> PyErr {
    let errno = match error {
        ProxyError::Io(error) => return from_io(error),
        ProxyError::Cancelled => return aborted(&error.to_string()),
        ProxyError::Dead => return timed_out(&error.to_string()),
        ProxyError::Untrusted | ProxyError::TooMany => libc::EACCES,
        ProxyError::Late => libc::ETIMEDOUT,
        ProxyError::Malformed(_) | ProxyError::Missing | ProxyError::CutOff => libc::EPROTO,
    };
    make(py, "proxy_protocol", (errno, error.to_string()))
}

pub fn from_tls(py: Python<'_>, error: &TlsError) -> PyErr {
    match error {
        TlsError::Config { .. } => PyValueError::new_err(error.to_string()),
        TlsError::Verification(error) => from_verification(py, error),
        TlsError::Truncated => make(py, "tls_truncation", ()),
        TlsError::Foreign => tls_failure(py, &error.to_string(), "INTERNAL_ERROR"),
        TlsError::NoApplicationProtocol => {
            tls_failure(py, &error.to_string(), "NO_APPLICATION_PROTOCOL")
        }
        TlsError::Alert { description, .. } => {
            let reason = description.to_uppercase().replace(' ', "_");
            tls_failure(py, &error.to_string(), &reason)
        }
        TlsError::Protocol(reason) => {
            let reason = reason.split(':').next().unwrap_or_default();
            tls_failure(
                py,
                &error.to_string(),
                &reason.to_uppercase().replace(' ', "_"),
            )
        }
    }
}

pub fn from_verification(py: Python<'_>, error: &VerifyError) -> PyErr {
    make(py, "tls_verification", (error.code(), error.to_string()))
}

pub fn packet_too_large(py: Python<'_>, limit: usize) -> PyErr {
    make(py, "packet_too_large", (limit,))
}

pub fn packet_incomplete(py: Python<'_>, partial: &[u8]) -> PyErr {
    make(py, "packet_incomplete", (PyBytes::new(py, partial),))
}

/// A packet that is to be sent cannot be.
pub fn packet_too_long(given: usize, longest: usize) -> PyErr {
    PyValueError::new_err(format!(
        "the length of a packet must be at most {longest} with this prefix, got {given} bytes: \
         send less at once, or use a wider one"
    ))
}

pub fn handshake_timeout(py: Python<'_>) -> PyErr {
    make(py, "handshake_timeout", ())
}

pub fn tls_failure(py: Python<'_>, text: &str, reason: &str) -> PyErr {
    make(py, "tls_failure", (text, reason))
}

/// Calls one of the makers of exceptions in `mantou.errors`.
fn make<'py>(py: Python<'py>, maker: &str, arguments: impl PyCallArgs<'py>) -> PyErr {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = ERRORS.get_or_try_init(py, || py.import("mantou.errors").map(Bound::unbind));
    let made = module.and_then(|module| module.bind(py).call_method1(maker, arguments));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// What asyncio lets pass, whoever raised it; everything else is reported.
pub fn ends_the_program(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// The exception itself. It is raised and caught: `into_value` alone would let go of the interpreter's
/// lock before it makes one, which it cannot have back while the interpreter ends.
pub fn value(py: Python<'_>, error: PyErr) -> Py<PyBaseException> {
    error.restore(py);
    PyErr::fetch(py).into_value(py)
}

/// The same of one that is known elsewhere, with the traceback that came with it.
pub fn value_of<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyBaseException> {
    error.clone_ref(py).into_value(py).into_bound(py)
}

/// The end of a handshake that we gave up ourselves.
pub fn aborted_handshake(py: Python<'_>) -> Bound<'_, PyAny> {
    let error = aborted("the connection was closed before the TLS handshake was done");
    value(py, error).into_bound(py).into_any()
}

/// A pipe of which one socket was closed on our side.
pub fn cut_pipe() -> PyErr {
    aborted("a piped socket was closed before both directions had ended")
}

/// Whoever waited for their bytes to be sent did so in vain.
pub fn lost_bytes(py: Python<'_>, why: Option<Py<PyAny>>) -> PyErr {
    let ours = aborted("the socket was closed before everything was sent");
    because(py, why, ours)
}

/// A connection that is lost, or was never there, for which it is too late.
pub fn not_open(py: Python<'_>, why: Option<Py<PyAny>>, text: &'static str) -> PyErr {
    because(py, why, PyConnectionError::new_err((libc::ENOTCONN, text)))
}

/// What ended a connection, if that is a `ConnectionError`, else ours for that reason.
fn because(py: Python<'_>, why: Option<Py<PyAny>>, ours: PyErr) -> PyErr {
    let why = why.map(|why| PyErr::from_value(why.into_bound(py)));
    match why {
        Some(why) if why.is_instance_of::<PyConnectionError>(py) => why,
        why => {
            ours.set_cause(py, why);
            ours
        }
    }
}

fn aborted(what: &str) -> PyErr {
    PyConnectionAbortedError::new_err((libc::ECONNABORTED, what.to_owned()))
}

pub fn wrong_thread(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "mantou.errors", "WrongThreadError") {
        Ok(class) => PyErr::from_type(
            class.clone(),
            "mantou's sockets belong to the thread of their event loop; \
             use loop.call_soon_threadsafe() to reach it",
        ),
        Err(error) => error,
    }
}

pub fn left_behind() -> PyErr {
    PyRuntimeError::new_err(
        "this event loop and its sockets belong to the process that was forked; the child needs \
         a loop of its own, and sockets that are opened in it",
    )
}

/// The engine was asked for something in the middle of something else: a bug here, not in the caller.
pub fn reentered() -> PyErr {
    PyRuntimeError::new_err("the socket engine was entered twice")
}

fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
