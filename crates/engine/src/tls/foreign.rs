//! Certificates that somebody outside the engine judges.

use std::fmt::Debug;

use rustls::{CertificateError, Error, OtherError};
use rustls_pki_types::CertificateDer;

use super::error::{VerifyError, VerifyKind};

/// Somebody else's verification. It is asked while the session processes its input, on its thread.
pub trait ForeignJudge: Debug + Send + Sync {
    /// Whether this chain, the peer's own certificate first, may be trusted. The judge knows by
    /// itself which connection that is.
    fn judge(&self, chain: &[&[u8]]) -> Result<(), Refusal>;
}

/// Why a chain was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The number of the alert that the peer is to get.
    pub alert: u8,
    pub message: String,
}

pub fn ask(
    judge: &dyn ForeignJudge,
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    trust: &str,
) -> Result<(), (Error, VerifyError)> {
    let whole: Vec<&[u8]> = [leaf].into_iter().chain(rest).map(AsRef::as_ref).collect();
    judge.judge(&whole).map_err(|refusal| {
        let failure = VerifyError {
            kind: VerifyKind::Other,
            message: refusal.message,
            trust: trust.to_owned(),
        };
        (error_with_alert(refusal.alert), failure)
    })
}

/// The error of rustls that has it send this alert, or one that comes close.
fn error_with_alert(alert: u8) -> Error {
    let error = match alert {
        40 => return Error::General("refused by a foreign judge".into()),
        42 => CertificateError::BadEncoding,
        43 => CertificateError::InvalidPurpose,
        44 => CertificateError::Revoked,
        45 => CertificateError::Expired,
        48 => CertificateError::UnknownIssuer,
        51 => CertificateError::BadSignature,
        _ => CertificateError::Other(OtherError(std::sync::Arc::new(Refused))),
    };
    error.into()
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused by a foreign judge")
    }
}

impl std::error::Error for Refused {}
