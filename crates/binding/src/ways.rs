//! The ways that `connect()` has gone before: a client often connects to one place, again and again.
//! Options that are plain values and the same as before need not be checked again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mantou_engine::Settings;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use crate::cell::Guarded;
use crate::settings;

/// Places that are remembered; with the next one all are forgotten, which costs one check each.
const LIMIT: usize = 256;

type Memory = HashMap<isize, Arc<KnownWay>>;

static MEMORY: LazyLock<Guarded<Memory>> = LazyLock::new(Guarded::default);

/// What was found out about some options.
pub struct KnownWay {
    options: Vec<(Py<PyString>, Py<PyAny>)>,
    /// A `Way` of Python's.
    pub way: Py<PyAny>,
    pub direct: Option<Direct>,
}

/// All that it takes where nothing is to be resolved, bound or set before.
pub struct Direct {
    pub address: SocketAddr,
    pub timeout: Option<Duration>,
    pub settings: Arc<Settings>,
    pub hostname: Box<str>,
}

/// What was given to `connect()`.
pub struct Given<'py> {
    pub handlers: Option<Bound<'py, PyAny>>,
    pub data: Option<Bound<'py, PyAny>>,
    /// Speaks neither TLS nor of a proxy.
    pub is_bare: bool,
    /// What does not differ from connection to connection, and is no more than a value.
    values: Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)>,
    hash: isize,
}

impl<'py> Given<'py> {
    /// `None` if it cannot be told apart: values may be objects that change.
    pub fn of(options: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let py = options.py();
        let mut given = Self {
            handlers: None,
            data: None,
            is_bare: true,
            values: Vec::with_capacity(options.len()),
            hash: 0,
        };
        for (name, value) in options {
            if name.is(intern!(py, "socket")) {
                given.handlers = Some(value);
            } else if name.is(intern!(py, "data")) {
                given.data = Some(value);
            } else if name.is(intern!(py, "tls")) || name.is(intern!(py, "proxy_header")) {
                given.is_bare &= value.is(PyBool::new(py, false));
            } else if let Ok(name) = name.cast_into_exact::<PyString>()
                && is_plain(&value)
            {
                for part in [name.hash()?, value.hash()?] {
                    given.hash = given.hash.wrapping_mul(31).wrapping_add(part);
                }
                given.values.push((name, value));
            } else {
                return Ok(None);
            }
        }
        Ok(Some(given))
    }

    pub fn known(&self) -> PyResult<Option<Arc<KnownWay>>> {
        let Some((name, _)) = self.values.first() else {
            return Ok(None);
        };
        let py = name.py();
        let known = MEMORY.with(py, |memory| memory.get(&self.hash).map(Arc::clone));
        let Some(known) = known else {
            return Ok(None);
        };
        if known.options.len() != self.values.len() {
            return Ok(None);
        }
        for ((name, value), (known_name, known_value)) in self.values.iter().zip(&known.options) {
            if !(same(name, known_name.bind(py))? && same(value, known_value.bind(py))?) {
                return Ok(None);
            }
        }
        Ok(Some(known))
    }
}

/// The `Way` of the same options, if there was one.
#[pyfunction]
#[pyo3(signature = (options, /))]
pub fn known_way(options: &Bound<'_, PyDict>) -> PyResult<Option<Py<PyAny>>> {
    let Some(given) = Given::of(options)? else {
        return Ok(None);
    };
    let known = given.known()?;
    Ok(known.map(|known| known.way.clone_ref(options.py())))
}

/// These options were checked, and lead to this `Way`.
#[pyfunction]
#[pyo3(signature = (options, way, /))]
pub fn remember_way(options: &Bound<'_, PyDict>, way: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = options.py();
    let Some(given) = Given::of(options)? else {
        return Ok(());
    };
    let known = KnownWay {
        options: given
            .values
            .into_iter()
            .map(|(name, value)| (name.unbind(), value.unbind()))
            .collect(),
        way: way.clone().unbind(),
        direct: Direct::of(way)?,
    };
    let forgotten = MEMORY.with(py, |memory| {
        let forgotten = if memory.len() < LIMIT {
            Memory::new()
        } else {
            std::mem::take(memory)
        };
        (memory.insert(given.hash, Arc::new(known)), forgotten)
    });
    drop(forgotten);
    Ok(())
}

impl Direct {
    fn of(way: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let address = way.getattr("address")?;
        if address.is_none() {
            return Ok(None);
        }
        let timeout: Option<f64> = way.getattr("connect_timeout")?.extract()?;
        let hostname: String = way.getattr("hostname")?.extract()?;
        Ok(Some(Self {
            address: settings::socket_address(&address)?,
            timeout: timeout.map(settings::duration),
            settings: settings::of_options(&way.getattr("connection")?)?,
            hostname: hostname.into(),
        }))
    }
}

/// A value that never changes, and whose comparison runs nobody's code.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyFloat>()
}

/// Of two plain values. True is not 1 here: an option may want one of the two.
fn same(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(one.is(other) || (one.get_type().is(other.get_type()) && one.eq(other)?))
}
