//! Keying material (RFC 5705, RFC 8446 section 7.5) and channel bindings (RFC 5929, RFC 9266).

use aws_lc_rs::digest;
use rustls::SupportedCipherSuite;
use rustls::crypto::tls13::{Hkdf, OkmBlock};

use super::capture::ExporterSecret;
use super::der;
use super::error::TlsError;

/// The label of RFC 9266.
pub const TLS_EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";

pub fn keying_material(
    suite: SupportedCipherSuite,
    secret: &ExporterSecret,
    label: &[u8],
    context: Option<&[u8]>,
    output: &mut [u8],
) -> Result<(), TlsError> {
    match (suite, secret) {
        (SupportedCipherSuite::Tls13(suite), ExporterSecret::Tls13(secret)) => {
            let hash = suite.common.hash_provider;
            let hash = |data: &[u8]| hash.hash(data);
            let derived = expand(
                suite.hkdf_provider,
                secret,
                label,
                hash(b"").as_ref(),
                &mut vec![0; secret.len()],
            )?;
            let context = hash(context.unwrap_or_default());
            let context = context.as_ref();
            expand(suite.hkdf_provider, &derived, b"exporter", context, output)?;
            Ok(())
        }
        (SupportedCipherSuite::Tls12(suite), ExporterSecret::Tls12 { master, randoms }) => {
            let mut seed = randoms.to_vec();
            if let Some(context) = context {
                let len = u16::try_from(context.len()).map_err(|_| refused("context too long"))?;
                seed.extend_from_slice(&len.to_be_bytes());
                seed.extend_from_slice(context);
            }
            suite.prf_provider.for_secret(output, master, label, &seed);
            Ok(())
        }
        _ => Err(refused("no keying material")),
    }
}

/// HKDF-Expand-Label of RFC 8446. Returns what was put into `output`.
fn expand(
    hkdf: &dyn Hkdf,
    secret: &[u8],
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Result<Vec<u8>, TlsError> {
    const PREFIX: &[u8] = b"tls13 ";
    let len = u16::try_from(output.len()).map_err(|_| refused("length too large"))?;
    let label_len =
        u8::try_from(PREFIX.len() + label.len()).map_err(|_| refused("label too long"))?;
    let context_len = u8::try_from(context.len()).map_err(|_| refused("context too long"))?;
    hkdf.expander_for_okm(&OkmBlock::new(secret))
        .expand_slice(
            &[
                &len.to_be_bytes(),
                &[label_len],
                PREFIX,
                label,
                &[context_len],
                context,
            ],
            output,
        )
        .map_err(|_| refused("length too large"))?;
    Ok(output.to_vec())
}

fn refused(reason: &str) -> TlsError {
    TlsError::Protocol(format!("cannot export keying material: {reason}"))
}

/// The hash of a server's certificate, by the hash of its signature or SHA-256 where that is
/// MD5 or SHA-1. `None` where the signature has no single hash.
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match der::fields(certificate)?.signature_algorithm {
        // 1.2.840.113549.1.1: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
            4 | 5 | 11 => &digest::SHA256,
            12 => &digest::SHA384,
            13 => &digest::SHA512,
            _ => return None,
        },
        // 1.2.840.10045.4: ECDSA with SHA-1, SHA-256, SHA-384, SHA-512
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2] => {
            &digest::SHA256
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 4] => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
