//! What a session of rustls has agreed on, at one moment.

use mantou_engine::tls::{Binding, ResumeToken, Session};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::socket::Socket;
use crate::tls::TlsTicket;

/// Taken from an established session; it does not change with it.
#[pyclass(frozen, module = "mantou._core")]
pub struct TlsFacts {
    /// OpenSSL's name, the protocol's version and the bits of the key.
    #[pyo3(get)]
    cipher: Option<(String, String, u32)>,
    #[pyo3(get)]
    alpn: Option<Vec<u8>>,
    peer_chain: Vec<Vec<u8>>,
    /// The name that a server was asked for.
    #[pyo3(get)]
    server_name: Option<String>,
    #[pyo3(get)]
    is_resumed: bool,
    exporter: Option<Vec<u8>>,
    ticket: Option<ResumeToken>,
}

#[pymethods]
impl TlsFacts {
    /// The peer's certificate, and those it sent along, in DER.
    #[getter]
    fn peer_chain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.peer_chain.iter().map(|der| PyBytes::new(py, der)))
    }

    /// What a later connection resumes with; None for a server.
    #[getter]
    fn ticket(&self) -> Option<TlsTicket> {
        self.ticket.clone().map(TlsTicket)
    }

    /// The channel binding of RFC 9266.
    #[getter]
    fn exporter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.exporter.as_ref().map(|bytes| PyBytes::new(py, bytes))
    }
}

impl TlsFacts {
    pub fn of(session: &Session) -> Self {
        let cipher = session.cipher();
        Self {
            cipher: cipher.map(|it| (it.name.to_owned(), it.version.to_owned(), it.bits)),
            alpn: session.alpn().map(<[u8]>::to_vec),
            peer_chain: session
                .peer_certificates()
                .iter()
                .map(|der| der.to_vec())
                .collect(),
            server_name: session.server_name().map(str::to_owned),
            is_resumed: session.is_resumed(),
            exporter: session.channel_binding(Binding::TlsExporter),
            ticket: session.resume_token(),
        }
    }
}

/// Those of a socket's session, of a transport's also when it is gone; None if rustls does not drive
/// it, or it was not established.
#[pyfunction]
#[pyo3(signature = (socket, /))]
pub fn tls_facts(socket: &Bound<'_, Socket>) -> PyResult<Option<TlsFacts>> {
    let py = socket.py();
    if socket.get().is_gone(py) {
        let facts = |session: &Session| session.cipher().map(|_| TlsFacts::of(session));
        return Ok(socket.get().last_session(py, facts).flatten());
    }
    let facts = |session: &mut Session| session.cipher().map(|_| TlsFacts::of(session));
    let found = socket
        .get()
        .with(py, |core, token| core.session(token).map(facts))?;
    Ok(found.flatten())
}
