//! PROXY headers, to and from what `python/mantou/_proxy.py` makes of them.

use std::net::{IpAddr, SocketAddr};

use mantou_engine::proxy::{
    Addresses, ClientTls, Command, Field, Header, Malformed, Transport, Version,
};
use mantou_engine::{Network, ProxyPolicy};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::listener::Listener;

/// Type and value of each.
type Fields = Vec<(u8, Vec<u8>)>;

/// Source and destination.
#[derive(FromPyObject, IntoPyObject)]
pub enum Ends {
    Ip((IpAddr, u16), (IpAddr, u16)),
    Unix(Vec<u8>, Vec<u8>),
}

/// A header: its version, whether it is LOCAL, its transport as version 2 numbers it, source and
/// destination, what is said besides, of the client's TLS (bits, whether it was verified, and what
/// is said besides), and whether there is a checksum.
type Parts = (
    u8,
    bool,
    u8,
    Option<Ends>,
    Fields,
    Option<(u8, u32, Fields)>,
    bool,
);

/// The bytes of a header. `ValueError` if it cannot be said in its version.
#[pyfunction]
#[pyo3(signature = (parts, /))]
pub fn write_proxy_header(parts: Parts) -> PyResult<Vec<u8>> {
    let header = header_of(parts);
    header
        .and_then(|header| header.to_bytes())
        .map_err(|Malformed(why)| PyValueError::new_err(why))
}

/// The `ProxyHeader` for users.
pub fn shown<'py>(py: Python<'py>, header: &Header) -> PyResult<Bound<'py, PyAny>> {
    static MAKER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let maker = MAKER.import(py, "mantou._proxy", "received")?;
    maker.call1((parts_of(header),))
}

#[pymethods]
impl Listener {
    /// New connections begin with a PROXY header, which is believed if it comes from one of these
    /// networks, or from anywhere.
    fn set_proxy_protocol(
        &self,
        py: Python<'_>,
        required: bool,
        trusted: Option<Vec<(IpAddr, u8)>>,
    ) -> PyResult<()> {
        let network = |(address, prefix)| Network::new(address, prefix);
        let policy = ProxyPolicy {
            required,
            trusted: trusted.map(|all| all.into_iter().map(network).collect()),
        };
        let token = self.token(py);
        let core = &self.engine.get().core;
        core.with(|core| core.set_proxy_policy(token, policy))
    }
}

fn parts_of(header: &Header) -> Parts {
    let ends = match &header.addresses {
        Addresses::Unknown => None,
        Addresses::Ip {
            source,
            destination,
        } => Some(Ends::Ip(
            (source.ip(), source.port()),
            (destination.ip(), destination.port()),
        )),
        Addresses::Unix {
            source,
            destination,
        } => Some(Ends::Unix(source.clone(), destination.clone())),
    };
    let pairs = |fields: &[Field]| {
        let pair = |field: &Field| (field.kind, field.value.clone());
        fields.iter().map(pair).collect::<Fields>()
    };
    let tls = header.tls.as_ref();
    (
        header.version as u8,
        header.command == Command::Local,
        header.transport as u8,
        ends,
        pairs(&header.fields),
        tls.map(|tls| (tls.client, tls.verify, pairs(&tls.fields))),
        header.checksum,
    )
}

fn header_of(parts: Parts) -> Result<Header, Malformed> {
    let (version, local, transport, ends, fields, tls, checksum) = parts;
    let fields_of = |pairs: Fields| {
        let field = |(kind, value)| Field { kind, value };
        pairs.into_iter().map(field).collect::<Vec<_>>()
    };
    Ok(Header {
        version: match version {
            1 => Version::V1,
            2 => Version::V2,
            _ => return Err(Malformed("there are versions 1 and 2")),
        },
        command: if local {
            Command::Local
        } else {
            Command::Proxy
        },
        transport: match transport {
            0 => Transport::Unspecified,
            1 => Transport::Stream,
            _ => Transport::Datagram,
        },
        addresses: match ends {
            None => Addresses::Unknown,
            Some(Ends::Ip(source, destination)) => Addresses::Ip {
                source: SocketAddr::from(source),
                destination: SocketAddr::from(destination),
            },
            Some(Ends::Unix(source, destination)) => Addresses::Unix {
                source,
                destination,
            },
        },
        fields: fields_of(fields),
        tls: tls.map(|(client, verify, fields)| ClientTls {
            client,
            verify,
            fields: fields_of(fields),
        }),
        checksum,
    })
}
