//! What is known of a session.

use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;

use super::config::{Side, TlsConfig};
use super::connection::Connection;
use super::error::{TlsError, VerifyError};
use super::export;
use super::names;
use super::resume::ResumeToken;
use super::session::Session;

/// What became of the peer's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authorization<'a> {
    /// None was asked for, or the handshake is not done.
    None,
    Passed,
    /// It failed and was let pass.
    Failed(&'a VerifyError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cipher {
    /// OpenSSL's name.
    pub name: &'static str,
    pub standard_name: &'static str,
    pub version: &'static str,
    /// Of the key.
    pub bits: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// RFC 9266
    TlsExporter,
    /// RFC 5929
    ServerEndPoint,
}

impl Session {
    pub fn is_server(&self) -> bool {
        self.config.is_server()
    }

    pub fn config(&self) -> &Arc<TlsConfig> {
        &self.config
    }

    pub fn is_handshaking(&self) -> bool {
        !self.established
    }

    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub fn error(&self) -> Option<&TlsError> {
        self.failed.as_deref()
    }

    pub fn version(&self) -> Option<&'static str> {
        self.connection
            .state()
            .protocol_version()
            .map(names::version_name)
    }

    pub fn cipher(&self) -> Option<Cipher> {
        let suite = self.connection.state().negotiated_cipher_suite()?.suite();
        let (name, standard_name) = names::suite_names(suite);
        Some(Cipher {
            name,
            standard_name,
            version: self.version()?,
            bits: names::suite_bits(suite),
        })
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.state().alpn_protocol()
    }

    /// The key exchange group and its size in bits, as OpenSSL counts it.
    pub fn group(&self) -> Option<(&'static str, u32)> {
        let group = self.connection.state().negotiated_key_exchange_group()?;
        Some(names::group_name(group.name()))
    }

    pub fn is_resumed(&self) -> bool {
        self.connection.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name a client verifies; the name a server was asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The peer's certificate and what it sent along.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection
            .state()
            .peer_certificates()
            .unwrap_or_default()
    }

    /// Our certificate, as far as it was shown to the peer.
    pub fn own_certificates(&self) -> &[CertificateDer<'static>] {
        self.identity
            .as_ref()
            .map_or(&[], |identity| &identity.cert)
    }

    pub fn authorization(&self) -> Authorization<'_> {
        match (&self.failure, &self.config.side) {
            _ if !self.established => Authorization::None,
            (_, Side::Server { verifier: None, .. }) => Authorization::None,
            (_, Side::Client { verifier, .. }) if !verifier.looks() => Authorization::None,
            (Some(failure), _) => Authorization::Failed(failure),
            (None, _) => Authorization::Passed,
        }
    }

    pub fn export_keying_material(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        output: &mut [u8],
    ) -> Result<(), TlsError> {
        match (
            self.connection.state().negotiated_cipher_suite(),
            &self.secret,
        ) {
            (Some(suite), Some(secret)) if self.established => {
                export::keying_material(suite, secret, label, context, output)
            }
            _ => Err(TlsError::Protocol("the handshake is not done".into())),
        }
    }

    /// `None` where there is none: before the handshake, for signatures without a single hash, and
    /// in resumed sessions of TLS 1.2 without a certificate.
    pub fn channel_binding(&self, kind: Binding) -> Option<Vec<u8>> {
        match kind {
            Binding::TlsExporter => {
                let mut binding = vec![0; 32];
                let context = match self.connection.state().protocol_version() {
                    Some(ProtocolVersion::TLSv1_3) => None,
                    _ => Some(&b""[..]),
                };
                self.export_keying_material(export::TLS_EXPORTER, context, &mut binding)
                    .ok()?;
                Some(binding)
            }
            Binding::ServerEndPoint => {
                let chain = if self.is_server() {
                    self.own_certificates()
                } else {
                    self.peer_certificates()
                };
                export::server_end_point(chain.first()?)
            }
        }
    }

    /// What a later connection to the same server can resume with. Servers of TLS 1.3 send
    /// tickets after the handshake, so it may become usable only later.
    pub fn resume_token(&self) -> Option<ResumeToken> {
        match &self.connection {
            Connection::Client(_, store) => Some(ResumeToken(store.clone())),
            Connection::Server(_) => None,
        }
    }
}
