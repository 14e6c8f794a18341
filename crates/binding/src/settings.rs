//! Times, limits and addresses, from Python's options to the engine's.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use mantou_engine::{Limits, Settings};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyTuple};

use crate::cell::Guarded;
use crate::packets;

/// Longer times are as good as this one, and safe to add to any clock.
const LONGEST: f64 = 1e9;

/// The settings of validated `ConnectionOptions`. Those that came last are likely to come again.
#[derive(Default)]
pub struct LastSettings(Guarded<Option<(Py<PyAny>, Arc<Settings>)>>);

impl LastSettings {
    pub fn of(&self, options: &Bound<'_, PyAny>) -> PyResult<Arc<Settings>> {
        let py = options.py();
        let same = |last: &mut Option<(Py<PyAny>, Arc<Settings>)>| {
            let (known, settings) = last.as_ref()?;
            known.is(options).then(|| Arc::clone(settings))
        };
        if let Some(settings) = self.0.with(py, same) {
            return Ok(settings);
        }
        let settings = of_options(options)?;
        let entry = (options.clone().unbind(), Arc::clone(&settings));
        drop(self.0.replace(py, Some(entry)));
        Ok(settings)
    }
}

/// Those of validated `ConnectionOptions`.
pub fn of_options(options: &Bound<'_, PyAny>) -> PyResult<Arc<Settings>> {
    let time = |name: &str| -> PyResult<Option<Duration>> {
        let seconds: Option<f64> = options.getattr(name)?.extract()?;
        Ok(seconds.map(duration))
    };
    Ok(Arc::new(Settings {
        allow_half_open: options.getattr("allow_half_open")?.extract()?,
        no_delay: options.getattr("no_delay")?.extract()?,
        keep_alive: time("keep_alive")?,
        dead_after: time("dead_after")?,
        idle_timeout: time("idle_timeout")?,
        handshake_timeout: time("handshake_timeout")?,
        close_timeout: time("close_timeout")?,
        write_limit: options.getattr("write_limit")?.extract()?,
        packet: packets::framing(&options.getattr("packet")?, "option 'packet'")?,
        packet_size: options.getattr("packet_size")?.extract()?,
        exclusive: options.getattr("exclusive")?.extract()?,
        transport: options.getattr("transport")?.extract()?,
    }))
}

/// Those of a listener: a `Limits` of Python's.
pub fn limits(options: &Bound<'_, PyAny>) -> PyResult<Limits> {
    Ok(Limits {
        connections: options.getattr("max_connections")?.extract()?,
        connections_per_host: options.getattr("max_connections_per_host")?.extract()?,
        rate: options.getattr("accept_rate")?.extract()?,
        handshakes: options.getattr("max_handshakes")?.extract()?,
    })
}

pub fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
}

/// A number of seconds that a user gave as the argument `name`.
pub fn seconds(given: &Bound<'_, PyAny>, name: &str) -> PyResult<Duration> {
    let number = given.is_instance_of::<PyInt>() || given.is_instance_of::<PyFloat>();
    if !number || given.is_instance_of::<PyBool>() {
        let class = given.get_type();
        let class = class.name()?;
        return Err(PyTypeError::new_err(format!(
            "{name} must be a number of seconds, not {class}"
        )));
    }
    let seconds: f64 = given.extract()?;
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{name} must be a finite number of seconds, 0 or more, got {seconds}"
        )));
    }
    Ok(duration(seconds))
}

/// `(host, port)` or `(host, port, flowinfo, scope_id)`, as `getaddrinfo` returns them.
pub fn socket_address(address: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    let address = address.cast::<PyTuple>()?;
    let host: String = address.get_item(0)?.extract()?;
    let port: u16 = address.get_item(1)?.extract()?;
    let number = |index: usize| match address.get_item(index) {
        Ok(value) => value.extract::<u32>(),
        Err(_) => Ok(0),
    };
    let literal = host.split('%').next().unwrap_or_default();
    match literal.parse() {
        Ok(IpAddr::V4(ip)) => Ok(SocketAddrV4::new(ip, port).into()),
        Ok(IpAddr::V6(ip)) => Ok(SocketAddrV6::new(ip, port, number(2)?, number(3)?).into()),
        Err(_) => Err(PyValueError::new_err(format!("not an address: {host}"))),
    }
}
