//! TLS, seen from Python: configurations, sessions to resume, errors.

use std::path::PathBuf;
use std::sync::Arc;

use mantou_engine::tls::{
    self, CertificateDer, ClientAuth, ClientSpec, Common, ForeignJudge, Identity, ResumeToken,
    ServerSpec, Session, TlsError, Trust, Version,
};
use mantou_engine::{Acceptor, Driver};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::errors;
use crate::judging::ContextJudge;
use crate::ssl_channel::Bios;

// The numbers of `ssl.VerifyMode` that are told apart.
const CERT_NONE: u8 = 0;
const CERT_OPTIONAL: u8 = 1;

/// How to speak TLS, checked and ready for any number of connections.
#[pyclass(frozen, module = "mantou._core")]
pub struct TlsConfig {
    pub shared: Arc<tls::TlsConfig>,
    /// The certificates that it shows.
    leaves: Vec<CertificateDer<'static>>,
}

#[pymethods]
impl TlsConfig {
    /// Certificates, keys and revocation lists are in DER.
    #[new]
    #[pyo3(signature = (server_side, *, identities, ca, crl, verify, request_cert, alpn, ciphers, lowest, highest, key_log_file))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn new(
        py: Python<'_>,
        server_side: bool,
        identities: Vec<(Vec<Vec<u8>>, Vec<u8>)>,
        ca: Option<Vec<Vec<u8>>>,
        crl: Vec<Vec<u8>>,
        verify: bool,
        request_cert: bool,
        alpn: Vec<Vec<u8>>,
        ciphers: Option<String>,
        lowest: &str,
        highest: &str,
        key_log_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let make = || -> Result<Self, TlsError> {
            let (identities, leaves) = identities_of(identities)?;
            let common = Common {
                trust: match ca {
                    Some(ca) => Trust::Certificates(ca.into_iter().map(Into::into).collect()),
                    None => Trust::System,
                },
                identities,
                crls: crl.into_iter().map(Into::into).collect(),
                alpn,
                min_version: Version::parse("min_version", lowest)?,
                max_version: Version::parse("max_version", highest)?,
                ciphers,
                key_log: key_log_file,
            };
            let client_auth = match (request_cert, verify) {
                (false, _) => ClientAuth::None,
                (true, false) => ClientAuth::Request,
                (true, true) => ClientAuth::Require,
            };
            let shared = if server_side {
                tls::TlsConfig::server(ServerSpec {
                    common,
                    client_auth,
                    prefer_own_ciphers: false,
                })?
            } else {
                tls::TlsConfig::client(ClientSpec { common, verify })?
            };
            Ok(Self { shared, leaves })
        };
        make().map_err(|error| errors::from_tls(py, &error))
    }

    /// For sessions on behalf of an `ssl.SSLContext`, which judges the peer's certificate itself.
    /// `verify_mode` is one of the numbers of `ssl.VerifyMode`.
    #[staticmethod]
    #[pyo3(signature = (server_side, *, identities, verify_mode, alpn, ciphers, prefer_own_ciphers, lowest, highest, key_log_file))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn of_context(
        py: Python<'_>,
        server_side: bool,
        identities: Vec<(Vec<Vec<u8>>, Vec<u8>)>,
        verify_mode: u8,
        alpn: Vec<Vec<u8>>,
        ciphers: String,
        prefer_own_ciphers: bool,
        lowest: &str,
        highest: &str,
        key_log_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let make = || -> Result<Self, TlsError> {
            let (identities, leaves) = identities_of(identities)?;
            let judge: Arc<dyn ForeignJudge> = Arc::new(ContextJudge);
            let common = Common {
                trust: Trust::Foreign(judge),
                identities,
                crls: Vec::new(),
                alpn,
                min_version: Version::parse("min_version", lowest)?,
                max_version: Version::parse("max_version", highest)?,
                ciphers: Some(ciphers),
                key_log: key_log_file,
            };
            let shared = if server_side {
                tls::TlsConfig::server(ServerSpec {
                    common,
                    client_auth: match verify_mode {
                        CERT_NONE => ClientAuth::None,
                        CERT_OPTIONAL => ClientAuth::Verify,
                        _ => ClientAuth::Require,
                    },
                    prefer_own_ciphers,
                })?
            } else {
                tls::TlsConfig::client(ClientSpec {
                    common,
                    verify: verify_mode != CERT_NONE,
                })?
            };
            Ok(Self { shared, leaves })
        };
        make().map_err(|error| errors::from_tls(py, &error))
    }

    /// Whether its certificates are made for this name.
    fn covers(&self, name: &str) -> bool {
        self.leaves.iter().any(|leaf| tls::covers(leaf, name))
    }
}

type Leaves = Vec<CertificateDer<'static>>;

fn identities_of(given: Vec<(Vec<Vec<u8>>, Vec<u8>)>) -> Result<(Vec<Identity>, Leaves), TlsError> {
    let identities: Vec<_> = given
        .into_iter()
        .map(|(chain, key)| Identity::from_der(chain, key))
        .collect::<Result<_, _>>()?;
    let leaves = identities
        .iter()
        .filter_map(|identity| identity.chain.first().cloned());
    let leaves = leaves.collect();
    Ok((identities, leaves))
}

/// How many certificates the system trusts.
#[pyfunction]
pub fn system_trust_size() -> usize {
    tls::system_trust_size()
}

/// Whether certificates can be made for this: a DNS name in ASCII, or an address without a zone.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn is_server_name(name: &str) -> bool {
    tls::is_server_name(name)
}

/// The channel binding `tls-server-end-point` of a server with this certificate.
#[pyfunction]
#[pyo3(signature = (certificate, /))]
pub fn server_end_point<'py>(py: Python<'py>, certificate: &[u8]) -> Option<Bound<'py, PyBytes>> {
    tls::server_end_point(certificate).map(|binding| PyBytes::new(py, &binding))
}

/// The kind of a certificate's key, an object identifier with its dots.
#[pyfunction]
#[pyo3(signature = (certificate, /))]
pub fn key_algorithm(certificate: &[u8]) -> Option<String> {
    tls::key_algorithm(certificate)
}

/// A TLS session to resume, from `Socket.get_session()`. Opaque, and of this process only.
#[pyclass(frozen, module = "mantou._core")]
pub struct TlsTicket(pub ResumeToken);

/// What a connection needs to begin its side of TLS: a `TlsSettings`, and the name it falls back to.
pub struct Start {
    way: Way,
    settings: Py<PyAny>,
    pub server_side: bool,
    pub name: String,
    pub ticket: Option<ResumeToken>,
    /// Ciphertext that has arrived already.
    pub initial: Vec<u8>,
}

/// Who drives a session: the engine, or an `ssl.SSLContext`.
pub enum Way {
    Native(Arc<tls::TlsConfig>),
    Context(Py<PyAny>),
}

impl Way {
    /// What some `TlsSettings` have chosen.
    pub fn of(settings: &Bound<'_, PyAny>) -> PyResult<Self> {
        let config = settings.getattr("config")?;
        Ok(match config.cast::<TlsConfig>() {
            Ok(config) => Self::Native(Arc::clone(&config.get().shared)),
            Err(_) => Self::Context(config.unbind()),
        })
    }

    pub fn acceptor(&self) -> Acceptor {
        match self {
            Self::Native(config) => Acceptor::Native(Arc::clone(config)),
            Self::Context(_) => Acceptor::Foreign,
        }
    }
}

impl Start {
    pub fn new(settings: &Bound<'_, PyAny>, server_side: bool, hostname: &str) -> PyResult<Self> {
        let name: Option<String> = settings.getattr("server_name")?.extract()?;
        let ticket = settings.getattr("session")?;
        Ok(Self {
            way: Way::of(settings)?,
            settings: settings.clone().unbind(),
            server_side,
            name: name.unwrap_or_else(|| hostname.to_owned()),
            ticket: match ticket.cast::<TlsTicket>() {
                Ok(ticket) => Some(ticket.get().0.clone()),
                Err(_) => None,
            },
            initial: Vec::new(),
        })
    }

    /// For what a server has no use of.
    pub fn as_client(&mut self, what: &str) -> PyResult<&mut Self> {
        if self.server_side {
            return Err(PyValueError::new_err(format!(
                "{what} is for clients before the handshake"
            )));
        }
        Ok(self)
    }

    /// Accepts others than it would have.
    pub fn set_verification(
        &mut self,
        py: Python<'_>,
        request: bool,
        reject: bool,
    ) -> PyResult<()> {
        let changed = self
            .settings
            .bind(py)
            .call_method1("with_verification", (request, reject))?;
        self.way = Way::of(&changed)?;
        self.settings = changed.unbind();
        Ok(())
    }

    /// The engine's driver, and the foreign one if that is who drives.
    pub fn driver(&self, py: Python<'_>, bios: &Bios) -> PyResult<(Driver, Option<Py<PyAny>>)> {
        let session = match &self.way {
            Way::Native(config) if self.server_side => Session::server(config),
            Way::Native(config) => Session::client(config, Some(&self.name), self.ticket.as_ref()),
            Way::Context(context) => {
                let name = Some(self.name.as_str());
                let name = name.filter(|name| !(self.server_side || name.is_empty()));
                let driver =
                    context_driver(py, bios, context, self.server_side, name, &self.initial)?;
                return Ok((Driver::Foreign, Some(driver)));
            }
        };
        let session = session.map_err(|error| errors::from_tls(py, &error))?;
        Ok((Driver::Native(session), None))
    }
}

/// The foreign driver of a connection that a listener with these settings has accepted.
pub fn server_driver(
    py: Python<'_>,
    bios: &Bios,
    settings: &Bound<'_, PyAny>,
) -> PyResult<Option<Py<PyAny>>> {
    match Way::of(settings)? {
        Way::Native(_) => Ok(None),
        Way::Context(context) => context_driver(py, bios, &context, true, None, &[]).map(Some),
    }
}

/// Who drives for an `ssl.SSLContext`: a `Handshake`, if it may be rustls, or OpenSSL.
fn context_driver(
    py: Python<'_>,
    bios: &Bios,
    context: &Py<PyAny>,
    server_side: bool,
    name: Option<&str>,
    initial: &[u8],
) -> PyResult<Py<PyAny>> {
    static CHOOSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let choose = CHOOSE.import(py, "mantou._ssl_context", "driver_for")?;
    let initial = PyBytes::new(py, initial);
    let driver = choose.call1((context, server_side, name, bios.get(py)?, initial))?;
    Ok(driver.unbind())
}

/// OpenSSL's driver of a server whose client rustls has nothing to offer.
pub fn openssl_driver(
    py: Python<'_>,
    bios: &Bios,
    context: &Py<PyAny>,
    hello: &[u8],
) -> PyResult<Py<PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "mantou._ssl_driver", "SSLDriver")?;
    let hello = PyBytes::new(py, hello);
    let driver = class.call1((context, true, py.None(), bios.get(py)?, hello))?;
    Ok(driver.unbind())
}

// Errors
