//! Whom to trust: verifiers that tell precisely what is wrong and, if they are told to, let it
//! pass.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

use super::capture;
use super::der;
use super::error::{TlsError, VerifyError, VerifyKind, verify_kind};

/// The certificates that verification ends at.
#[derive(Clone, Debug)]
pub enum Trust {
    /// What the operating system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    Certificates(Vec<CertificateDer<'static>>),
}

/// A trust store that is ready for use.
#[derive(Clone, Debug)]
pub struct Anchors {
    pub roots: Arc<RootCertStore>,
    /// Certificates that are trusted also as the peer's own.
    exact: Vec<CertificateDer<'static>>,
    description: String,
}

impl Anchors {
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        match trust {
            Trust::System => {
                let roots = system_roots();
                Ok(Self {
                    description: format!("the system's trust store, {} certificates", roots.len()),
                    roots,
                    exact: Vec::new(),
                })
            }
            Trust::Certificates(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots
                        .add(certificate.clone())
                        .map_err(|error| TlsError::Config {
                            option: "ca",
                            reason: format!("not usable as a trusted certificate: {error}"),
                        })?;
                }
                let count = certificates.len();
                let s = if count == 1 { "" } else { "s" };
                Ok(Self {
                    roots: Arc::new(roots),
                    exact: certificates.clone(),
                    description: format!("the {count} certificate{s} of ca"),
                })
            }
        }
    }
}

/// How many certificates the system's trust store holds.
pub fn system_trust_size() -> usize {
    system_roots().len()
}

/// The system's store, read once for each setting of the variables that name it.
fn system_roots() -> Arc<RootCertStore> {
    type Setting = [Option<std::ffi::OsString>; 2];
    static KNOWN: Mutex<Option<(Setting, Arc<RootCertStore>)>> = Mutex::new(None);
    let setting = [env::var_os("SSL_CERT_FILE"), env::var_os("SSL_CERT_DIR")];
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((of, roots)) if *of == setting => roots.clone(),
        _ => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let roots = Arc::new(roots);
            // An empty store may be filled later.
            if !roots.is_empty() {
                *known = Some((setting, roots.clone()));
            }
            roots
        }
    }
}

type Crls = Vec<CertificateRevocationListDer<'static>>;

#[derive(Debug)]
struct Common {
    anchors: Anchors,
    strict: bool,
    provider: Arc<CryptoProvider>,
}

impl Common {
    /// Gives a failure of rustls its precise reason; `None` if the certificate is trusted as it
    /// stands.
    fn explain(
        &self,
        error: &Error,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
    ) -> Option<VerifyError> {
        let trust = &self.anchors.description;
        let is_ca = matches!(error, Error::InvalidCertificate(CertificateError::Other(inner))
            if inner.to_string().contains("CaUsedAsEndEntity"));
        let mut kind = verify_kind(error);
        if is_ca || kind == VerifyKind::UnknownIssuer {
            if self.anchors.exact.iter().any(|known| known == leaf) {
                return self.check_exact(leaf, name).err();
            }
            let self_issued = |der: &CertificateDer<'_>| {
                der::fields(der).is_some_and(|fields| fields.is_self_issued())
            };
            kind = if self_issued(leaf) {
                VerifyKind::SelfSigned
            } else if is_ca {
                VerifyKind::WrongPurpose
            } else if chain.iter().any(self_issued) {
                VerifyKind::SelfSignedInChain
            } else {
                VerifyKind::UnknownIssuer
            };
        }
        Some(match (kind, name) {
            (VerifyKind::HostnameMismatch, Some(name)) => VerifyError::mismatch(name, trust),
            (VerifyKind::Other, _) => VerifyError {
                kind,
                message: error.to_string(),
                trust: trust.clone(),
            },
            _ => VerifyError::new(kind, trust),
        })
    }

    /// The certificate is in the trust store itself: it needs no issuer, only its dates and its
    /// name count.
    fn check_exact(
        &self,
        leaf: &CertificateDer<'_>,
        name: Option<&ServerName<'_>>,
    ) -> Result<(), VerifyError> {
        let trust = &self.anchors.description;
        let fail = |kind| Err(VerifyError::new(kind, trust));
        let (Some(fields), Ok(parsed)) = (der::fields(leaf), ParsedCertificate::try_from(leaf))
        else {
            return fail(VerifyKind::Malformed);
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if now < fields.not_before {
            return fail(VerifyKind::NotYetValid);
        }
        if now > fields.not_after {
            return fail(VerifyKind::Expired);
        }
        match name {
            Some(name) if verify_server_name(&parsed, name).is_err() => {
                Err(VerifyError::mismatch(name, trust))
            }
            _ => Ok(()),
        }
    }

    /// Puts the failure down. Lets it pass unless verification is strict.
    fn judge(&self, checked: Result<(), (Error, VerifyError)>) -> Result<(), Error> {
        let Err((error, failure)) = checked else {
            return Ok(());
        };
        capture::put(|captured| captured.failure = Some(failure));
        if !self.strict {
            return Ok(());
        }
        // The alert that is sent follows from this.
        match error {
            Error::InvalidCertificate(CertificateError::Other(_)) => {
                Err(CertificateError::UnknownIssuer.into())
            }
            error => Err(error),
        }
    }

    fn unknown_issuer() -> Error {
        CertificateError::UnknownIssuer.into()
    }

    fn check_signature12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn check_signature13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn crl_error(error: &impl std::fmt::Display) -> TlsError {
    TlsError::Config {
        option: "crl",
        reason: error.to_string(),
    }
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    common: Common,
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
            common: Common {
                anchors,
                strict,
                provider,
            },
            inner,
        })
    }

    pub fn is_strict(&self) -> bool {
        self.common.strict
    }

    pub fn trust(&self) -> &str {
        &self.common.anchors.description
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
        let checked = match &self.inner {
            Some(inner) => inner.verify_server_cert(leaf, chain, name, ocsp, now),
            None => Err(Common::unknown_issuer()),
        };
        match checked {
            Ok(_) => Ok(()),
            Err(error) => match self.common.explain(&error, leaf, chain, Some(name)) {
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
        self.common.judge(checked)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.check_signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.check_signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.common.schemes()
    }
}

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    common: Common,
    hints: Vec<DistinguishedName>,
    inner: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientVerifier {
    pub fn new(
        anchors: Anchors,
        crls: Crls,
        strict: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = anchors.roots.clone();
        // Clients choose by these names. A whole system's store does not fit into the message of
        // some clients.
        let hints = match &anchors.exact[..] {
            [] => Vec::new(),
            _ => roots.subjects(),
        };
        let inner = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let built = builder.with_crls(crls).enforce_revocation_expiration();
            Some(built.build().map_err(|error| crl_error(&error))?)
        };
        Ok(Self {
            common: Common {
                anchors,
                strict,
                provider,
            },
            hints,
            inner,
        })
    }

    pub fn is_strict(&self) -> bool {
        self.common.strict
    }

    pub fn trust(&self) -> &str {
        &self.common.anchors.description
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
        let checked = match &self.inner {
            Some(inner) => inner.verify_client_cert(leaf, chain, now),
            None => Err(Common::unknown_issuer()),
        };
        match checked {
            Ok(_) => Ok(()),
            Err(error) => match self.common.explain(&error, leaf, chain, None) {
                Some(failure) => Err((error, failure)),
                None => Ok(()),
            },
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.common.strict
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
        self.common.judge(checked)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.check_signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.common.check_signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.common.schemes()
    }
}
