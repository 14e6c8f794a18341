//! Our own certificates and their keys: checked when they are given, chosen in each handshake.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::capture;
use super::der;
use super::error::TlsError;

/// A certificate, the chain behind it, and its key.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Certificates, and a key as PKCS#8, PKCS#1 or SEC1.
    pub fn from_der(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self, TlsError> {
        let unusable = |reason| TlsError::config("key", format!("is not usable: {reason}"));
        Ok(Self {
            chain: chain.into_iter().map(CertificateDer::from).collect(),
            key: PrivateKeyDer::try_from(key).map_err(unusable)?,
        })
    }
}

/// Certificates to choose from, for either side.
#[derive(Debug)]
pub(super) struct Identities(Vec<Arc<CertifiedKey>>);

impl Identities {
    pub(super) fn new(
        identities: Vec<Identity>,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let load = |identity: Identity| {
            let key = provider
                .key_provider
                .load_private_key(identity.key)
                .map_err(|error| {
                    let reason = format!(
                        "is not usable: {error}; the engine has RSA from 2048 bits on, ECDSA with \
                         P-256, P-384 and P-521, and Ed25519: pass an ssl.SSLContext for others"
                    );
                    TlsError::config("key", reason)
                })?;
            check_own(&identity.chain, &*key)?;
            Ok(Arc::new(CertifiedKey::new(identity.chain, key)))
        };
        let loaded: Result<_, _> = identities.into_iter().map(load).collect();
        Ok(Self(loaded?))
    }

    /// The first that the peer can check; of several, one that is made for the name it asks for.
    fn choose(&self, schemes: &[SignatureScheme], name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let mut chosen = self.0.iter().find(usable);
        if let (true, Some(Ok(name))) = (self.0.len() > 1, name.map(ServerName::try_from)) {
            let named = |key: &&Arc<CertifiedKey>| {
                let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
                parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
            };
            chosen = self.0.iter().filter(usable).find(named).or(chosen);
        }
        let chosen = chosen.cloned();
        let identity = chosen.clone();
        capture::put(|captured| captured.identity = identity);
        chosen
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        capture::put(|captured| captured.server_name = name.map(Box::from));
        self.choose(hello.signature_schemes(), name)
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.choose(sigschemes, None)
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whether a chain can be sent, and the key belongs to it.
fn check_own(chain: &[CertificateDer<'_>], key: &dyn SigningKey) -> Result<(), TlsError> {
    /// The list's length has 24 bits; each certificate comes with its own, and with extensions.
    const LONGEST_CHAIN: usize = (1 << 24) - 1;
    let refused = |option, reason: &str| Err(TlsError::config(option, reason));
    let Some(leaf) = chain.first() else {
        return refused("cert", "holds no certificate");
    };
    let Some(shown) = der::public_key(leaf) else {
        return refused("cert", "is not usable: it has no public key");
    };
    if key.public_key().is_some_and(|key| key.as_ref() != shown) {
        return refused("key", "does not belong to the certificate");
    }
    if der::is_version_3(leaf) != Some(true) {
        return refused(
            "cert",
            "is of X.509 version 1 or 2, which many peers refuse: make one of version 3 (openssl \
             x509 with -extfile, or openssl req -x509), or pass an ssl.SSLContext to use it",
        );
    }
    let len: usize = chain.iter().map(|certificate| certificate.len() + 5).sum();
    if len > LONGEST_CHAIN {
        return refused("cert", "holds a chain of more than 16 MiB");
    }
    Ok(())
}
