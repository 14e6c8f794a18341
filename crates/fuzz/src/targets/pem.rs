//! PEM, and the DER within.

use mantou_engine::tls::{
    CertificateDer, certificates, covers, key_algorithm, private_key, revocation_lists,
    server_end_point, trusted,
};

/// All that is read from files of certificates and keys, and from what peers show.
pub fn texts(data: &[u8]) {
    let found = certificates(data);
    for servers in [false, true] {
        if let (Ok(all), Ok(some)) = (&found, trusted(data, servers)) {
            assert!(some.iter().all(|one| all.contains(one)), "made up");
        }
    }
    for certificate in found.into_iter().flatten() {
        certified(&certificate);
    }
    let _ = revocation_lists(data);
    if let Ok(key) = private_key(data) {
        assert!(key.label.ends_with("PRIVATE KEY"));
    }
    // The same bytes as they come over the wire.
    certified(&CertificateDer::from(data));
}

fn certified(certificate: &CertificateDer<'_>) {
    let _ = key_algorithm(certificate);
    let _ = server_end_point(certificate);
    for name in ["a.test", "127.0.0.1", "::1"] {
        let _ = covers(certificate, name);
    }
}
