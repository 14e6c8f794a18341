//! What a socket tells of its TLS session, and what can be set of it.

use mantou_engine::tls::{Authorization, Binding, Session};
use pyo3::exceptions::{PyNotImplementedError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::Socket;
use crate::errors;
use crate::handlers::Handlers;
use crate::tls::{Start, TlsTicket};

#[pymethods]
impl Socket {
    /// Whether the peer has shown a certificate that was verified; False without TLS.
    ///
    /// Bun: `socket.authorized`.
    #[getter]
    fn authorized(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(answer) = self.recall(py, "is_authorized", ())? {
            return answer.extract();
        }
        let passed = |session: &mut Session| session.authorization() == Authorization::Passed;
        match self.session(py, passed)? {
            Some(authorized) => Ok(authorized),
            None => Ok(self.last_facts(py, |facts| facts.authorized)),
        }
    }

    /// The protocol agreed on; False if none was, None before the handshake is done.
    ///
    /// Bun: `socket.alpnProtocol`.
    #[getter]
    fn alpn_protocol(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(answer) = self.recall(py, "alpn_protocol", ())? {
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

    /// The failed verification that `reject_unauthorized=False` let pass, or None.
    ///
    /// Bun: `socket.getAuthorizationError()`.
    ///
    /// :returns: an `ssl.SSLCertVerificationError`, whose `verify_message` says why.
    fn get_authorization_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.authorization_error(py)
    }

    /// The cipher suite in use; None before the handshake and once closed.
    ///
    /// Bun: `socket.getCipher()`.
    ///
    /// :returns: a dict of `name` (OpenSSL's), `standard_name` and `version`.
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

    /// The version in use, "TLSv1.3" or "TLSv1.2"; None before the handshake and once closed.
    ///
    /// Bun: `socket.getTLSVersion()`.
    fn get_tls_version(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(answer) = self.ask(py, "version", ())? {
            return answer.extract();
        }
        let version = self.session(py, |session| session.version())?.flatten();
        Ok(version.map(str::to_owned))
    }

    /// Key material that both ends can derive from the session, RFC 5705.
    ///
    /// Bun: `socket.exportKeyingMaterial()`.
    ///
    /// :param length: in bytes, from 1 to 8160.
    /// :param label: what it is for; both ends use the same.
    /// :param context: bytes that go into it; None is not the same as none.
    /// :returns: so many bytes; None without TLS and once closed.
    /// :raises NotImplementedError: an `ssl.SSLContext` drives the connection; give TLSOptions.
    /// :raises ValueError: the length is out of range.
    /// :raises ssl.SSLError: the handshake is not done.
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
            Some(Err(error)) => Err(errors::from_tls(py, &error)),
        }
    }

    /// What ties a login to this very TLS session.
    ///
    /// Not in Bun.
    ///
    /// :param kind: "tls-exporter" (RFC 9266) or "tls-server-end-point" (RFC 5929). With an
    ///     `ssl.SSLContext`, "tls-server-end-point" or "tls-unique"; a server's certificate is then
    ///     found by a handshake of the context with itself, within memory, which its
    ///     `sni_callback` sees.
    /// :returns: bytes; None without TLS, before the handshake, once closed, or if there is none.
    /// :raises NotImplementedError: an `ssl.SSLContext` drives the connection, and the `ssl`
    ///     module does not tell: "tls-exporter", or a context with several certificates.
    /// :raises ValueError: another kind.
    fn channel_binding<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.is_gone(py) {
            return Ok(None);
        }
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

    /// What a later connection to the same server resumes with: `tls={"session": ...}`.
    ///
    /// Opaque, and of this process only. With TLS 1.3 servers send it after the handshake.
    ///
    /// Bun: `socket.getSession()`.
    ///
    /// :returns: a ticket; None while there is none, and once closed.
    fn get_session(&self, py: Python<'_>) -> PyResult<Option<TlsTicket>> {
        let token = self.session(py, |session| session.resume_token())?;
        Ok(token.flatten().map(TlsTicket))
    }

    /// Resumes an earlier session.
    ///
    /// Only before the handshake: in `open`, where there is a `handshake` handler.
    ///
    /// Bun: `socket.setSession()`.
    ///
    /// :param session: what `get_session()` returned.
    /// :raises TypeError: it is something else.
    /// :raises ValueError: the handshake has begun, there is no TLS, or we are the server.
    fn set_session(&self, session: &Bound<'_, TlsTicket>) -> PyResult<()> {
        let ticket = session.get().0.clone();
        self.restart(session.py(), "set_session()", |start| {
            start.as_client("set_session()")?.ticket = Some(ticket);
            Ok(())
        })
    }

    /// Whether an earlier session was resumed.
    ///
    /// Bun: `socket.isSessionReused()`.
    fn is_session_reused(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(answer) = self.ask(py, "is_session_reused", ())? {
            return answer.extract();
        }
        Ok(self
            .session(py, |session| session.is_resumed())?
            .unwrap_or(false))
    }

    /// The key exchange of the session; None before the handshake and once closed.
    ///
    /// Bun: `socket.getEphemeralKeyInfo()`.
    ///
    /// :returns: a dict of `type` ("ECDH" or "DH"), `name` and `size` in bits.
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

    /// An empty list: the engine keeps to itself which signatures both ends know.
    ///
    /// Bun: `socket.getSharedSigalgs()`.
    #[allow(clippy::unused_self)]
    fn get_shared_sigalgs(&self) -> Vec<String> {
        Vec::new()
    }

    /// The name that the client has asked for; None if it asked for none.
    ///
    /// Bun: `socket.getServername()`.
    fn get_servername(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(handshake) = self.handshake(py) {
            return Ok(handshake.get().server_name(py));
        }
        if let Some(answer) = self.recall(py, "server_name", ())? {
            return answer.extract();
        }
        let name = self.session(py, |session| session.server_name().map(str::to_owned))?;
        Ok(name.flatten())
    }

    /// Sets the name to ask for and to verify.
    ///
    /// Only before the handshake: in `open`, where there is a `handshake` handler.
    ///
    /// Bun: `socket.setServername()`.
    ///
    /// :param name: a host name or an IP address.
    /// :raises TypeError: not a str.
    /// :raises ValueError: no certificate can have such a name; the handshake has begun, there is
    ///     no TLS, or we are the server.
    fn set_servername(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let clean = py.import("mantou._tls_options")?.getattr("tls_name")?;
        let name = clean.call1((name, "name"))?.extract()?;
        self.restart(py, "set_servername()", |start| {
            start.as_client("set_servername()")?.name = name;
            Ok(())
        })
    }

    /// Sets how much plaintext goes into one TLS record.
    ///
    /// Bun: `socket.setMaxSendFragment()`.
    ///
    /// :param size: in bytes, from 512 to 16384.
    /// :returns: whether it was set; False for another size, without TLS and once closed.
    fn set_max_send_fragment(&self, py: Python<'_>, size: usize) -> PyResult<bool> {
        let set = self.session(py, |session| size >= 512 && session.set_max_fragment(size))?;
        Ok(set.unwrap_or(false))
    }

    /// Sets whom to accept, as the options of these names do.
    ///
    /// Only before the handshake: in `open`, where there is a `handshake` handler.
    ///
    /// Bun: `socket.setVerifyMode()`.
    ///
    /// :param request_cert: a server asks clients for a certificate.
    /// :param reject_unauthorized: a peer whose certificate is not verified is refused.
    /// :raises NotImplementedError: an `ssl.SSLContext` drives the connection.
    /// :raises ValueError: the handshake has begun, or there is no TLS.
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

    /// Does nothing: there is no renegotiation.
    ///
    /// Bun: `socket.disableRenegotiation()`.
    #[allow(clippy::unused_self)]
    fn disable_renegotiation(&self) {}

    /// Raises: there is no renegotiation.
    ///
    /// Bun: `socket.renegotiate()`.
    ///
    /// :raises NotImplementedError: always. It is a danger that TLS 1.3 has removed.
    #[allow(clippy::unused_self)]
    fn renegotiate(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(
            "renegotiation is a danger that TLS 1.3 has removed; the engine does not do it in \
             TLS 1.2 either",
        ))
    }

    /// None: the engine keeps its Finished message to itself.
    ///
    /// Bun: `socket.getTLSFinishedMessage()`.
    #[allow(clippy::unused_self)]
    fn get_tls_finished_message(&self) -> Option<Vec<u8>> {
        None
    }

    /// None: the engine keeps the peer's Finished message to itself.
    ///
    /// Bun: `socket.getTLSPeerFinishedMessage()`.
    #[allow(clippy::unused_self)]
    fn get_tls_peer_finished_message(&self) -> Option<Vec<u8>> {
        None
    }

    /// None: the engine keeps tickets to itself; `get_session()` has what resumes a session.
    ///
    /// Bun: `socket.getTLSTicket()`.
    #[allow(clippy::unused_self)]
    fn get_tls_ticket(&self) -> Option<Vec<u8>> {
        None
    }

    /// Makes TLS of a plain connection, as STARTTLS does.
    ///
    /// Everything accepted before is sent in clear first; what was received and not yet delivered
    /// goes to TLS. This socket is detached: it gets no event but its `close`, just before that of
    /// the other, and `write()` is -1. The other takes the connection over.
    ///
    /// Bun: `socket.upgradeTLS()`.
    ///
    /// :param tls: as in `connect()`. The name to verify is the `hostname` connected to, unless
    ///     `server_name` says another.
    /// :param socket: the handlers of the TLS socket, in any form that `connect()` takes.
    /// :param data: the `data` of the TLS socket.
    /// :param server_side: which side of the handshake is ours; None for the one it has: server
    ///     for an accepted socket, else client.
    /// :param initial: ciphertext that a handler was given already.
    /// :returns: this socket, and the TLS socket.
    /// :raises ConnectionError: it is not open.
    /// :raises OSError: a file that the options name cannot be read.
    /// :raises TypeError: an option is unknown or of the wrong type, or the handlers are none.
    /// :raises ValueError: it speaks TLS already, or an option has a wrong value.
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
        start.initial = initial.unwrap_or_default().to_vec();
        let data = data.unwrap_or_else(|| py.None());
        let secure = Self::upgrade_with(this, start, Some(handlers), data)?;
        Ok((this.clone(), secure))
    }
}
