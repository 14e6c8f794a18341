//! The certificates that both ends of a TLS session have shown.

use mantou_engine::tls::Session;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::Socket;

#[pymethods]
impl Socket {
    /// The peer's certificate, as `ssl.SSLSocket.getpeercert()` describes it.
    ///
    /// Bun: `socket.getPeerCertificate()`.
    ///
    /// :param detailed: also the chain, from one `issuer_certificate` to the next.
    /// :returns: a dict, with `raw` (DER) and `fingerprint256` besides; {} if the peer has shown
    ///     none; None without TLS and once closed.
    #[pyo3(signature = (detailed=false))]
    fn get_peer_certificate<'py>(
        &self,
        py: Python<'py>,
        detailed: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Peer, "describe", Some(detailed))
    }

    /// Our own certificate, described as by `get_peer_certificate()`.
    ///
    /// Bun: `socket.getCertificate()`.
    ///
    /// :returns: a dict; {} if we have shown none, and for a client with an `ssl.SSLContext`, which
    ///     does not tell; None without TLS and once closed.
    fn get_certificate<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Own, "describe", Some(false))
    }

    /// The peer's certificate, as a `cryptography.x509.Certificate`; None if there is none.
    ///
    /// Bun: `socket.getPeerX509Certificate()`.
    ///
    /// :raises ImportError: the package `cryptography` is not installed.
    fn get_peer_x509_certificate<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Peer, "load", None)
    }

    /// Our own certificate, as a `cryptography.x509.Certificate`; None if there is none.
    ///
    /// Bun: `socket.getX509Certificate()`.
    ///
    /// :raises ImportError: the package `cryptography` is not installed.
    fn get_x509_certificate<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Own, "load", None)
    }
}

impl Socket {
    /// Calls a helper of `mantou._certificates` with a chain in DER; `None` once it is closed.
    fn with_chain<'py>(
        &self,
        py: Python<'py>,
        whose: Whose,
        helper: &str,
        detailed: Option<bool>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let select = |session: &mut Session| match whose {
            Whose::Peer => session.peer_certificates().to_vec(),
            Whose::Own => session.own_certificates().to_vec(),
        };
        let chain = match (self.session(py, select)?, self.is_open(py)?) {
            (Some(chain), _) => {
                PyList::new(py, chain.iter().map(|der| PyBytes::new(py, der)))?.into_any()
            }
            (None, true) => match self.ask(py, whose.question(), ())? {
                Some(chain) => chain,
                None => return Ok(None),
            },
            (None, false) => return Ok(None),
        };
        let module = py.import("mantou._certificates")?;
        match detailed {
            Some(detailed) => module.call_method1(helper, (chain, detailed)),
            None => module.call_method1(helper, (chain,)),
        }
        .map(Some)
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Peer,
    Own,
}

impl Whose {
    fn question(self) -> &'static str {
        match self {
            Whose::Peer => "peer_chain",
            Whose::Own => "own_chain",
        }
    }
}
