//! The handshake of a `mantou.SSLContext` that rustls carries out.
//!
//! It takes place outside the engine, because the context may have to judge a certificate in the
//! middle of it, which runs Python. Once it is done, the session is the engine's like any other.

use mantou_engine::tls::{Session, TlsError, VerifyKind};
use pyo3::prelude::*;

use crate::cell::Guarded;
use crate::errors;
use crate::judging::{self, Case};
use crate::tls::TlsConfig;

/// A handshake on behalf of an `ssl.SSLContext`.
#[pyclass(frozen, module = "mantou._core")]
pub struct Handshake {
    context: Py<PyAny>,
    /// The context that judges certificates, which may be another.
    judge: Py<PyAny>,
    server_side: bool,
    name: Option<String>,
    /// None while it is at work, and once it was handed on.
    session: Guarded<Option<Box<Session>>>,
    /// What a client has sent, as long as it got no answer: somebody else may have to give it.
    unanswered: Guarded<Option<Vec<u8>>>,
    /// Ciphertext that was there before it began.
    initial: Guarded<Vec<u8>>,
}

/// How far a handshake has come.
pub enum Progress {
    /// This is to be sent; then the peer has its turn.
    Going(Vec<u8>),
    /// The session stands, and has opened this already.
    Done {
        session: Box<Session>,
        plaintext: Vec<u8>,
        output: Vec<u8>,
    },
    /// A client that rustls has nothing to offer: OpenSSL is to answer what it has said.
    Declined(Vec<u8>),
    /// This is the last to be sent.
    Failed(PyErr, Vec<u8>),
}

#[pymethods]
impl Handshake {
    /// Begins it. The name is the one to ask for; with it a client's handshake may be refused:
    /// then rustls does not know such names.
    #[new]
    #[pyo3(signature = (config, context, judge, server_side, name, initial, /))]
    fn new(
        py: Python<'_>,
        config: &TlsConfig,
        context: Py<PyAny>,
        judge: Py<PyAny>,
        server_side: bool,
        name: Option<String>,
        initial: Vec<u8>,
    ) -> PyResult<Self> {
        let session = if server_side {
            Session::server(&config.shared)
        } else {
            Session::client(&config.shared, name.as_deref(), None)
        };
        Ok(Self {
            context,
            judge,
            server_side,
            name,
            session: Guarded::new(Some(Box::new(
                session.map_err(|error| errors::from_tls(py, &error))?,
            ))),
            unanswered: Guarded::new(server_side.then(Vec::new)),
            initial: Guarded::new(initial),
        })
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.judge)
    }
}

impl Handshake {
    /// Takes what the peer has sent.
    pub fn advance(&self, py: Python<'_>, ciphertext: &[u8]) -> Progress {
        let Some(mut session) = self.session.replace(py, None) else {
            return Progress::Going(Vec::new());
        };
        let mut input = self.initial.replace(py, Vec::new());
        input.extend_from_slice(ciphertext);
        let mut unanswered = self.unanswered.replace(py, None);
        if let Some(unanswered) = &mut unanswered {
            unanswered.extend_from_slice(&input);
        }
        let case = Case {
            context: self.judge.clone_ref(py),
            server_side: self.server_side,
            name: self.name.clone(),
        };
        let mut plaintext = Vec::new();
        let (fed, refusal) = judging::within(case, || session.feed(&mut input, &mut plaintext));
        let mut output = Vec::new();
        session.take_output(&mut output);
        match (fed, unanswered) {
            // Whatever it has answered, nobody has got it.
            (Err(_), Some(unanswered)) => Progress::Declined(unanswered),
            (Err(error), None) => {
                let error = refusal.unwrap_or_else(|| exception(py, &error));
                Progress::Failed(error, output)
            }
            (Ok(fed), _) if fed.established => Progress::Done {
                session,
                plaintext,
                output,
            },
            (Ok(_), unanswered) => {
                let unanswered = unanswered.filter(|_| output.is_empty());
                drop(self.unanswered.replace(py, unanswered));
                drop(self.session.replace(py, Some(session)));
                Progress::Going(output)
            }
        }
    }

    /// The name that a server was asked for, or a client asks for.
    pub fn server_name(&self, py: Python<'_>) -> Option<String> {
        let known = |session: &mut Option<Box<Session>>| {
            let name = session.as_ref()?.server_name();
            name.map(str::to_owned)
        };
        self.session.with(py, known)
    }

    pub fn context(&self) -> &Py<PyAny> {
        &self.context
    }
}

/// As OpenSSL tells it: a certificate that is not there has not failed verification.
fn exception(py: Python<'_>, error: &TlsError) -> PyErr {
    match error {
        TlsError::Verification(missing) if missing.kind == VerifyKind::Missing => {
            errors::tls_failure(py, &missing.message, "PEER_DID_NOT_RETURN_A_CERTIFICATE")
        }
        error => errors::from_tls(py, error),
    }
}
