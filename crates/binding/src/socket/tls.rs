//! What a socket knows of its TLS session.

use mantou_engine::tls::{Authorization, Binding, Session};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyNotImplementedError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::Socket;
use crate::engine::Owner;
use crate::handlers::Handlers;
use crate::tls::{self, Start, TlsTicket};

impl Socket {
    /// Looks at its session; `None` without one, and once it is closed.
    fn session<R>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&mut Session) -> R,
    ) -> PyResult<Option<R>> {
        self.with(py, |core, token| core.session(token).map(look))
    }

    /// Asks the driver that is not the engine's, if there is one.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        question: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(driver) = self.driver(py) else {
            return Ok(None);
        };
        driver.bind(py).call_method1(question, arguments).map(Some)
    }

    /// The verification of the peer's certificate that failed and was let pass.
    pub fn authorization_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let failure = self.session(py, |session| match session.authorization() {
            Authorization::Failed(error) => Some(error.clone()),
            _ => None,
        })?;
        let failure = failure.flatten();
        Ok(failure.map(|error| tls::verification(py, &error).into_value(py).into_any()))
    }

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

#[pymethods]
impl Socket {
    #[getter]
    fn authorized(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(answer) = self.ask(py, "is_authorized", ())? {
            return answer.extract();
        }
        let passed = |session: &mut Session| session.authorization() == Authorization::Passed;
        match self.session(py, passed)? {
            Some(authorized) => Ok(authorized),
            None => Ok(self.last_facts(py, |facts| facts.authorized)),
        }
    }

    /// None before the handshake is done, False if none was agreed on.
    #[getter]
    fn alpn_protocol(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(answer) = self.ask(py, "alpn_protocol", ())? {
            return Ok(answer.unbind());
        }
        let known = self.session(py, |session| {
            (session.is_handshaking(), session.alpn().map(<[u8]>::to_vec))
        })?;
        let alpn = match known {
            Some((true, _)) => return Ok(py.None()),
            Some((false, alpn)) => alpn,
            None => self.last_facts(py, |facts| facts.alpn.clone()),
        };
        Ok(match alpn {
            Some(name) => String::from_utf8_lossy(&name)
                .into_pyobject(py)?
                .into_any()
                .unbind(),
            None => false.into_pyobject(py)?.to_owned().into_any().unbind(),
        })
    }

    fn get_authorization_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.authorization_error(py)
    }

    fn get_cipher<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if let Some(answer) = self.ask(py, "cipher", ())? {
            return Ok(answer.extract()?);
        }
        let Some(cipher) = self.session(py, |session| session.cipher())?.flatten() else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("name", cipher.name)?;
        dict.set_item("standard_name", cipher.standard_name)?;
        dict.set_item("version", cipher.version)?;
        Ok(Some(dict))
    }

    fn get_tls_version(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(answer) = self.ask(py, "version", ())? {
            return answer.extract();
        }
        let version = self.session(py, |session| session.version())?.flatten();
        Ok(version.map(str::to_owned))
    }

    #[pyo3(signature = (detailed=false))]
    fn get_peer_certificate<'py>(
        &self,
        py: Python<'py>,
        detailed: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Peer, "describe", Some(detailed))
    }

    fn get_certificate<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Own, "describe", Some(false))
    }

    fn get_peer_x509_certificate<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Peer, "load", None)
    }

    fn get_x509_certificate<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with_chain(py, Whose::Own, "load", None)
    }

    #[pyo3(signature = (length, label, context=None))]
    fn export_keying_material<'py>(
        &self,
        py: Python<'py>,
        length: usize,
        label: &str,
        context: Option<&[u8]>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if !(1..=255 * 32).contains(&length) {
            return Err(PyValueError::new_err(format!(
                "length must be from 1 to {}, got {length}",
                255 * 32
            )));
        }
        if let Some(answer) = self.ask(py, "export_keying_material", (length, label, context))? {
            return Ok(answer.extract()?);
        }
        let exported = self.session(py, |session| {
            let mut material = vec![0; length];
            let done = session.export_keying_material(label.as_bytes(), context, &mut material);
            done.map(|()| material)
        })?;
        match exported {
            None => Ok(None),
            Some(Ok(material)) => Ok(Some(PyBytes::new(py, &material))),
            Some(Err(error)) => Err(tls::to_exception(py, &error)),
        }
    }

    fn channel_binding<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if let Some(answer) = self.ask(py, "channel_binding", (kind,))? {
            return Ok(answer.extract()?);
        }
        let kind = match kind {
            "tls-exporter" => Binding::TlsExporter,
            "tls-server-end-point" => Binding::ServerEndPoint,
            other => {
                return Err(PyValueError::new_err(format!(
                    "kind must be 'tls-exporter' or 'tls-server-end-point', got '{other}'"
                )));
            }
        };
        let binding = self.session(py, |session| session.channel_binding(kind))?;
        Ok(binding.flatten().map(|binding| PyBytes::new(py, &binding)))
    }

    fn get_session(&self, py: Python<'_>) -> PyResult<Option<TlsTicket>> {
        let token = self.session(py, |session| session.resume_token())?;
        Ok(token.flatten().map(TlsTicket))
    }

    /// Resumes an earlier session, if its handshake has not begun.
    fn set_session(&self, session: &Bound<'_, TlsTicket>) -> PyResult<()> {
        let ticket = session.get().0.clone();
        self.restart(session.py(), "set_session()", |start| {
            start.as_client("set_session()")?.ticket = Some(ticket);
            Ok(())
        })
    }

    fn is_session_reused(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(answer) = self.ask(py, "is_session_reused", ())? {
            return answer.extract();
        }
        Ok(self
            .session(py, |session| session.is_resumed())?
            .unwrap_or(false))
    }

    fn get_ephemeral_key_info<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some((name, size)) = self.session(py, |session| session.group())?.flatten() else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        let kind = if name.starts_with("ffdhe") {
            "DH"
        } else {
            "ECDH"
        };
        dict.set_item("type", kind)?;
        dict.set_item("name", name)?;
        dict.set_item("size", size)?;
        Ok(Some(dict))
    }

    /// The engine keeps them to itself.
    #[allow(clippy::unused_self)]
    fn get_shared_sigalgs(&self) -> Vec<String> {
        Vec::new()
    }

    fn get_servername(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(answer) = self.ask(py, "server_name", ())? {
            return answer.extract();
        }
        let name = self.session(py, |session| session.server_name().map(str::to_owned))?;
        Ok(name.flatten())
    }

    /// Asks for another server, if the handshake has not begun.
    fn set_servername(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let clean = py.import("mantou._tls_options")?.getattr("tls_name")?;
        let name = clean.call1((name, "name"))?.extract()?;
        self.restart(py, "set_servername()", |start| {
            start.as_client("set_servername()")?.name = name;
            Ok(())
        })
    }

    fn set_max_send_fragment(&self, py: Python<'_>, size: usize) -> PyResult<bool> {
        let set = self.session(py, |session| size >= 512 && session.set_max_fragment(size))?;
        Ok(set.unwrap_or(false))
    }

    /// Accepts others than the options say, if the handshake has not begun.
    fn set_verify_mode(
        &self,
        py: Python<'_>,
        request_cert: bool,
        reject_unauthorized: bool,
    ) -> PyResult<()> {
        self.restart(py, "set_verify_mode()", |start| {
            start.set_verification(py, request_cert, reject_unauthorized)
        })
    }

    /// There is none to switch off.
    #[allow(clippy::unused_self)]
    fn disable_renegotiation(&self) {}

    #[allow(clippy::unused_self)]
    fn renegotiate(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(
            "renegotiation is a danger that TLS 1.3 has removed; the engine does not do it in \
             TLS 1.2 either",
        ))
    }

    #[allow(clippy::unused_self)]
    fn get_tls_finished_message(&self) -> Option<Vec<u8>> {
        None
    }

    #[allow(clippy::unused_self)]
    fn get_tls_peer_finished_message(&self) -> Option<Vec<u8>> {
        None
    }

    #[allow(clippy::unused_self)]
    fn get_tls_ticket(&self) -> Option<Vec<u8>> {
        None
    }

    /// Makes TLS of a plain connection. Returns this socket, which is detached, and the TLS one.
    #[pyo3(
        signature = (*, tls, socket, data=None, server_side=None, initial=None),
        text_signature = "(self, /, *, tls, socket, data=None, server_side=None, initial=b'')"
    )]
    fn upgrade_tls<'py>(
        this: &Bound<'py, Self>,
        tls: &Bound<'py, PyAny>,
        socket: &Bound<'py, PyAny>,
        data: Option<Py<PyAny>>,
        server_side: Option<bool>,
        initial: Option<&[u8]>,
    ) -> PyResult<(Bound<'py, Self>, Bound<'py, Self>)> {
        let py = this.py();
        let raw = this.get();
        let server_side = server_side.unwrap_or(raw.native_listener(py).is_some());
        let handlers = Handlers::compile(socket)?;
        let side = if server_side { "server" } else { "client" };
        let parse = py.import("mantou._tls_options")?.getattr("parse_tls")?;
        let settings = parse.call1((tls, side))?;
        let mut start = Start::new(&settings, server_side, raw.hostname())?;
        let initial = initial.unwrap_or_default().to_vec();
        start.initial.clone_from(&initial);
        let secure = raw.successor(py, this, handlers, data.unwrap_or_else(|| py.None()));
        let driver = secure.begin_with(py, start)?;
        let token = raw.begin_upgrade(py)?;
        let secure = Bound::new(py, secure)?;
        let engine = raw.engine().get();
        drop(engine.take_owner(py, token));
        engine.set_owner(py, token, Owner::Socket(secure.clone().unbind()));
        secure.get().inherit(py, token, raw);
        engine
            .core
            .with(|core| core.secure(token, driver, initial))?;
        Ok((this.clone(), secure))
    }
}
