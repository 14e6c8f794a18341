//! asyncio's streams: what arrives goes into an `asyncio.StreamReader` without a Python frame. One
//! of the files with `unsafe`.
//!
//! It does what `StreamReaderProtocol.data_received()` and `StreamReader.feed_data()` do, as long as
//! it is those that would be called and they had nothing unusual to do.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyString, PyType, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{ffi, intern};

/// The reader that a protocol feeds, as the protocol refers to it; `None` if that is for Python to
/// do: both have to be of asyncio's own classes.
pub fn of_protocol<'py>(protocol: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    find_reader(protocol).ok().flatten()
}

fn find_reader<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = protocol.py();
    let own = Own::get(py)?;
    if !protocol.get_type().is(&own.protocol) {
        return Ok(None);
    }
    let reference = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    let Some(reader) = reference.cast::<PyWeakrefReference>()?.upgrade() else {
        return Ok(None);
    };
    let is_known = reader.get_type().is(&own.reader)
        && is_behind(&own.data_received, protocol, intern!(py, "data_received"))?
        && is_behind(&own.wakeup_waiter, &reader, intern!(py, "_wakeup_waiter"))?;
    Ok(is_known.then_some(reference))
}

/// Gives the reader what arrived, and wakes who waits for it. False if nothing was done, because it
/// takes more than that.
pub fn feed(reference: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<bool> {
    let py = reference.py();
    let Some(reader) = reference.cast::<PyWeakrefReference>()?.upgrade() else {
        return Ok(true);
    };
    let Ok(Some((buffer, waiter))) = room(&reader, data.len()) else {
        return Ok(false);
    };
    append(&buffer, data)?;
    if !waiter.is_none() {
        reader.setattr(intern!(py, "_waiter"), py.None())?;
        let woken = waiter.call_method1(intern!(py, "set_result"), (py.None(),));
        if let Err(error) = woken {
            let cancelled = waiter.call_method0(intern!(py, "cancelled"))?;
            return cancelled.is_truthy()?.then_some(true).ok_or(error);
        }
    }
    Ok(true)
}

/// The reader's buffer and who waits for it; `None` where so much more would be refused, or have
/// the transport paused.
fn room<'py>(
    reader: &Bound<'py, PyAny>,
    len: usize,
) -> PyResult<Option<(Bound<'py, PyByteArray>, Bound<'py, PyAny>)>> {
    let py = reader.py();
    // Programs that transform what they read replace it, on the reader that they were given.
    if !is_behind(&Own::get(py)?.feed_data, reader, intern!(py, "feed_data"))? {
        return Ok(None);
    }
    let buffer = reader.getattr(intern!(py, "_buffer"))?;
    let buffer = buffer.cast_into_exact::<PyByteArray>()?;
    let limit: usize = reader.getattr(intern!(py, "_limit"))?.extract()?;
    let ended = reader.getattr(intern!(py, "_eof"))?;
    if buffer.len() + len > limit.saturating_mul(2) || !ended.is(PyBool::new(py, false)) {
        return Ok(None);
    }
    let waiter = reader.getattr(intern!(py, "_waiter"))?;
    Ok(Some((buffer, waiter)))
}

fn append(buffer: &Bound<'_, PyByteArray>, data: &[u8]) -> PyResult<()> {
    let len = buffer.len();
    buffer.resize(len + data.len())?;
    // SAFETY: the lock is held, and no Python code runs while the bytes are borrowed.
    let bytes = unsafe { buffer.as_bytes_mut() };
    bytes[len..].copy_from_slice(data);
    Ok(())
}

/// asyncio's own classes and functions.
struct Own {
    protocol: Py<PyType>,
    reader: Py<PyType>,
    data_received: Py<PyAny>,
    feed_data: Py<PyAny>,
    wakeup_waiter: Py<PyAny>,
}

impl Own {
    /// An exception if somebody has replaced one of them.
    fn get(py: Python<'_>) -> PyResult<&Self> {
        static OWN: PyOnceLock<Own> = PyOnceLock::new();
        OWN.get_or_try_init(py, || {
            let streams = py.import("asyncio.streams")?;
            let class = |name| PyResult::Ok(streams.getattr(name)?.cast_into::<PyType>()?);
            let function = |class: &Bound<'_, PyType>, name| {
                let function = class.getattr(name)?;
                let globals = function.getattr(intern!(py, "__globals__"))?;
                if !globals.is(streams.dict()) {
                    return Err(PyTypeError::new_err(format!("{name} is not asyncio's own")));
                }
                Ok(function.unbind())
            };
            let (protocol, reader) = (class("StreamReaderProtocol")?, class("StreamReader")?);
            Ok(Self {
                data_received: function(&protocol, "data_received")?,
                feed_data: function(&reader, "feed_data")?,
                wakeup_waiter: function(&reader, "_wakeup_waiter")?,
                protocol: protocol.unbind(),
                reader: reader.unbind(),
            })
        })
    }
}

/// Whether it is this function that a call of the method would call.
fn is_behind(
    function: &Py<PyAny>,
    object: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
) -> PyResult<bool> {
    let method = object.getattr(method)?;
    // SAFETY: a live object. The result is borrowed from it, or null with an exception set.
    let called = unsafe { PyMethod_Function(method.as_ptr()) };
    if called.is_null() {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(called == function.as_ptr())
}

// SAFETY: as CPython declares it.
unsafe extern "C" {
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}
