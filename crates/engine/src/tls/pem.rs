//! Certificates, keys and revocation lists out of PEM text.

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::error::TlsError;

/// All certificates of a text, in their order.
pub fn certificates(
    option: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(option, "certificate", text)
}

/// All revocation lists of a text.
pub fn revocation_lists(
    option: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all(option, "certificate revocation list", text)
}

/// The first private key of a text: PKCS#8, PKCS#1 or SEC1.
pub fn private_key(option: &'static str, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let encrypted =
        contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(text, b"Proc-Type: 4,ENCRYPTED");
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(_) | Err(_) if encrypted => Err(config(
            option,
            "the private key is encrypted and was not decrypted",
        )),
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) => Err(config(option, "no private key in PEM format found")),
        Err(error) => Err(config(option, &format!("not valid PEM: {error}"))),
    }
}

fn all<T: PemObject>(option: &'static str, what: &str, text: &[u8]) -> Result<Vec<T>, TlsError> {
    let found = T::pem_slice_iter(text)
        .collect::<Result<Vec<T>, Error>>()
        .map_err(|error| config(option, &format!("not valid PEM: {error}")))?;
    if found.is_empty() {
        return Err(config(option, &format!("no {what} in PEM format found")));
    }
    Ok(found)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn config(option: &'static str, reason: &str) -> TlsError {
    TlsError::Config {
        option,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: std::fmt::Debug>(result: Result<T, TlsError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_or_broken_is_said_with_the_option() {
        assert!(reason(certificates("ca", b"")).starts_with("ca: no certificate"));
        assert!(reason(revocation_lists("crl", b"x")).starts_with("crl: no certificate rev"));
        assert!(reason(private_key("key", b"\n")).starts_with("key: no private key"));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(reason(certificates("cert", cut)).starts_with("cert: not valid PEM"));
        let locked =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(reason(private_key("key", locked)).contains("encrypted"));
    }

    #[test]
    fn several_certificates_keep_their_order() {
        let made = ["a.test", "b.test"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
            (made.cert.pem(), made.cert.der().clone())
        });
        let text = format!("# first\n{}\n{}", made[0].0, made[1].0);
        let found = certificates("cert", text.as_bytes()).unwrap();
        assert_eq!(found, [made[0].1.clone(), made[1].1.clone()]);
    }
}
