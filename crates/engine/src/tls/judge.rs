//! What is wrong with a certificate, precisely; whether it matters; and who signed the handshake.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
};

use super::capture;
use super::der;
use super::error::{VerifyError, VerifyKind, verify_kind};
use super::trust::Anchors;

#[derive(Debug)]
pub struct Judge {
    pub anchors: Anchors,
    pub strict: bool,
    pub provider: Arc<CryptoProvider>,
}

impl Judge {
    /// Gives a failure of rustls its precise reason; `None` if the certificate is trusted as it
    /// stands.
    pub fn explain(
        &self,
        error: &Error,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
    ) -> Option<VerifyError> {
        let trust = &self.anchors.description;
        let is_ca = matches!(error, Error::InvalidCertificate(CertificateError::Other(inner))
            if inner.to_string().contains("CaUsedAsEndEntity"));
        let is_old = der::is_version_3(leaf) == Some(false);
        let mut kind = verify_kind(error);
        if is_ca || is_old || kind == VerifyKind::UnknownIssuer {
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
            } else if is_old {
                VerifyKind::OldVersion
            } else if chain.iter().any(self_issued) {
                VerifyKind::SelfSignedInChain
            } else {
                VerifyKind::UnknownIssuer
            };
        }
        let of = |message| VerifyError {
            kind,
            message,
            trust: trust.clone(),
        };
        Some(match (kind, name) {
            (VerifyKind::HostnameMismatch, Some(name)) => VerifyError::mismatch(name, trust),
            (VerifyKind::UnknownCriticalExtension, _) => {
                let unhandled = unhandled_extensions(leaf, chain);
                of(format!("unhandled critical extension {unhandled}"))
            }
            (VerifyKind::Other, _) => of(error.to_string()),
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
        let Some(fields) = der::fields(leaf) else {
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
        let is_for = |name: &ServerName<'_>| {
            // A certificate of version 1 has no names to look at.
            ParsedCertificate::try_from(leaf)
                .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
        };
        match name {
            Some(name) if !is_for(name) => Err(VerifyError::mismatch(name, trust)),
            _ => Ok(()),
        }
    }

    /// Puts the failure down. Lets it pass unless verification is strict.
    pub fn decide(&self, checked: Result<(), (Error, VerifyError)>) -> Result<(), Error> {
        let Err((error, failure)) = checked else {
            return Ok(());
        };
        capture::put(|captured| captured.failure = Some(failure));
        if !self.strict {
            return Ok(());
        }
        // The alert that is sent follows from this.
        match error {
            Error::InvalidCertificate(CertificateError::Other(_))
                if self.anchors.foreign.is_none() =>
            {
                Err(CertificateError::UnknownIssuer.into())
            }
            error => Err(error),
        }
    }

    pub fn unknown_issuer() -> Error {
        CertificateError::UnknownIssuer.into()
    }

    // What the peer signs in the handshake is checked against the key alone: whether its certificate
    // is acceptable was settled before, and where verification is off it may be one that webpki does
    // not read.

    pub fn check_signature12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some((algorithm, key)) = der::public_key(cert).and_then(der::key_parts) else {
            return Err(self.bad_signature());
        };
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let Some((_, candidates)) = mapping.iter().find(|(scheme, _)| *scheme == dss.scheme) else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        // With TLS 1.2 a scheme leaves open which curve it is.
        let fitting = |known: &&&dyn SignatureVerificationAlgorithm| {
            known.public_key_alg_id().as_ref() == algorithm
        };
        match candidates.iter().find(fitting) {
            Some(known)
                if known
                    .verify_signature(key, message, dss.signature())
                    .is_ok() =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            _ => Err(self.bad_signature()),
        }
    }

    pub fn check_signature13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = der::public_key(cert) else {
            return Err(self.bad_signature());
        };
        let key = SubjectPublicKeyInfoDer::from(key);
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms).map_err(|error| {
            match error {
                Error::InvalidCertificate(_) => self.bad_signature(),
                error => error,
            }
        })
    }

    /// Puts it down: what was let pass before is not why the handshake fails.
    fn bad_signature(&self) -> Error {
        let failure = VerifyError {
            kind: VerifyKind::BadSignature,
            message:
                "the handshake is not signed with the certificate's key, or that is of a kind \
                      that the engine does not check (RSA below 2048 bits)"
                    .into(),
            trust: self.anchors.description.clone(),
        };
        capture::put(|captured| captured.failure = Some(failure));
        CertificateError::BadSignature.into()
    }

    pub fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The critical extensions that webpki refuses, of the first certificate that has any.
fn unhandled_extensions(leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> String {
    // 2.5.29: key usage, alternative names, basic constraints, name constraints, where revocation
    // lists are, extended key usage.
    const HANDLED: [u8; 6] = [15, 17, 19, 30, 31, 37];
    let unhandled =
        |identifier: &&[u8]| !matches!(identifier, [0x55, 0x1d, last] if HANDLED.contains(last));
    let certificates = [leaf].into_iter().chain(chain);
    let mut found = certificates.filter_map(|der| {
        let critical = der::critical_extensions(der)?;
        let names: Vec<_> = critical
            .into_iter()
            .filter(unhandled)
            .map(der::dotted)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    });
    found.next().unwrap_or_default()
}
