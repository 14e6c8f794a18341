//! Whom to trust: verifiers that tell precisely what is wrong and, if they are told to, let it
//! pass.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

use super::chain;
use super::error::{TlsError, VerifyError, VerifyKind};
use super::foreign;
use super::judge::Judge;
use super::trust::Anchors;

type Crls = Vec<CertificateRevocationListDer<'static>>;

fn crl_error(error: &impl std::fmt::Display) -> TlsError {
    TlsError::config("crl", format!("is not usable: {error}"))
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    judge: Judge,
    /// `None` where nobody is trusted.
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerVerifier {
    pub fn new(
        anchors: Anchors,
        crls: Crls,
        strict: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = anchors.roots.clone();
        let inner = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            let built = builder.with_crls(crls).enforce_revocation_expiration();
            Some(built.build().map_err(|error| crl_error(&error))?)
        };
        Ok(Self {
            judge: Judge {
                anchors,
                strict,
                provider,
            },
            inner,
        })
    }

    pub fn is_strict(&self) -> bool {
        self.judge.strict
    }

    pub fn trust(&self) -> &str {
        &self.judge.anchors.description
    }

    /// Whether anybody looks at certificates: a foreign judge is not asked for what does not matter.
    pub fn looks(&self) -> bool {
        self.is_strict() || self.judge.anchors.foreign.is_none()
    }

    /// What is wrong with a chain, if anything.
    pub fn check(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Option<VerifyError> {
        let (leaf, rest) = chain.split_first()?;
        let checked = self.check_at(leaf, rest, name, &[], UnixTime::now());
        checked.err().map(|(_, failure)| failure)
    }

    fn check_at(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), (Error, VerifyError)> {
        if let Some(judge) = &self.judge.anchors.foreign {
            return if self.looks() {
                foreign::ask(&**judge, leaf, chain, self.trust())
            } else {
                Ok(())
            };
        }
        let checked = match &self.inner {
            Some(inner) => {
                let chain = chain::plausible(leaf, chain);
                inner.verify_server_cert(leaf, &chain, name, ocsp, now)
            }
            None => Err(Judge::unknown_issuer()),
        };
        match checked {
            Ok(_) => Ok(()),
            Err(error) => match self.judge.explain(&error, leaf, chain, Some(name)) {
                Some(failure) => Err((error, failure)),
                None => Ok(()),
            },
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check_at(end_entity, intermediates, server_name, ocsp_response, now);
        self.judge.decide(checked)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.check_signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.check_signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.schemes()
    }
}

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    judge: Judge,
    mandatory: bool,
    hints: Vec<DistinguishedName>,
    inner: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientVerifier {
    pub fn new(
        anchors: Anchors,
        crls: Crls,
        strict: bool,
        mandatory: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = anchors.roots.clone();
        let hints = hints(&anchors);
        let inner = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let built = builder.with_crls(crls).enforce_revocation_expiration();
            Some(built.build().map_err(|error| crl_error(&error))?)
        };
        Ok(Self {
            judge: Judge {
                anchors,
                strict,
                provider,
            },
            mandatory,
            hints,
            inner,
        })
    }

    pub fn is_strict(&self) -> bool {
        self.judge.strict
    }

    pub fn trust(&self) -> &str {
        &self.judge.anchors.description
    }

    pub fn missing(&self) -> VerifyError {
        VerifyError::new(VerifyKind::Missing, self.trust())
    }

    /// What is wrong with a chain, if anything.
    pub fn check(&self, chain: &[CertificateDer<'_>]) -> Option<VerifyError> {
        let (leaf, rest) = chain.split_first()?;
        let checked = self.check_at(leaf, rest, UnixTime::now());
        checked.err().map(|(_, failure)| failure)
    }

    fn check_at(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), (Error, VerifyError)> {
        if let Some(judge) = &self.judge.anchors.foreign {
            return foreign::ask(&**judge, leaf, chain, self.trust());
        }
        let checked = match &self.inner {
            Some(inner) => inner.verify_client_cert(leaf, &chain::plausible(leaf, chain), now),
            None => Err(Judge::unknown_issuer()),
        };
        match checked {
            Ok(_) => Ok(()),
            Err(error) => match self.judge.explain(&error, leaf, chain, None) {
                Some(failure) => Err((error, failure)),
                None => Ok(()),
            },
        }
    }
}

/// The names by which clients choose a certificate; none where they would be too many: then
/// clients show what they have.
fn hints(anchors: &Anchors) -> Vec<DistinguishedName> {
    /// The list's length has 16 bits, and so has that of all the extensions that it is one of.
    const LONGEST: usize = 60_000;
    if anchors.exact.is_empty() {
        // The system's store: its names do not fit into the message of some clients.
        return Vec::new();
    }
    let names = anchors.roots.subjects();
    let len: usize = names.iter().map(|name| 2 + name.as_ref().len()).sum();
    if len > LONGEST { Vec::new() } else { names }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let checked = self.check_at(end_entity, intermediates, now);
        self.judge.decide(checked)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.check_signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.check_signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.schemes()
    }
}
