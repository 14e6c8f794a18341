//! What rustls tells its configuration during a handshake, kept for the session at work.
//!
//! Verifiers, resolvers and key logs belong to a configuration, not to a session, and the
//! unbuffered sessions have no exporter of their own. All of them are called while the session
//! processes its input, on its thread: so what they learn is put down here, and the session picks
//! it up as soon as rustls returns.

use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use rustls::crypto::tls12::Prf;
use rustls::crypto::{ActiveKeyExchange, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuiteCommon, Error, KeyLog, SupportedCipherSuite, Tls12CipherSuite};
use zeroize::Zeroizing;

use super::error::{TlsError, VerifyError};

/// What keying material is exported from.
pub enum ExporterSecret {
    Tls13(Zeroizing<Vec<u8>>),
    Tls12 {
        master: Zeroizing<Vec<u8>>,
        /// The client's, then the server's.
        randoms: [u8; 64],
    },
}

#[derive(Default)]
pub struct Captured {
    pub failure: Option<VerifyError>,
    pub server_name: Option<Box<str>>,
    pub identity: Option<Arc<CertifiedKey>>,
    pub secret: Option<ExporterSecret>,
}

thread_local! {
    static CAPTURED: RefCell<Captured> = RefCell::default();
}

pub fn put(change: impl FnOnce(&mut Captured)) {
    CAPTURED.with_borrow_mut(change);
}

pub fn take() -> Captured {
    CAPTURED.take()
}

/// The key log of every configuration: it also learns what TLS 1.3 exports from.
pub struct Log {
    file: Option<Mutex<File>>,
}

impl Log {
    pub fn new(path: Option<&Path>) -> Result<Self, TlsError> {
        let open = |path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)
        };
        let file = path.map(open).transpose();
        let file = file.map_err(|error| {
            TlsError::config("key_log_file", format!("cannot be opened: {error}"))
        })?;
        Ok(Self {
            file: file.map(Mutex::new),
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl KeyLog for Log {
    fn will_log(&self, label: &str) -> bool {
        self.file.is_some() || label == "EXPORTER_SECRET"
    }

    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if label == "EXPORTER_SECRET" {
            let secret = ExporterSecret::Tls13(Zeroizing::new(secret.to_vec()));
            put(|captured| captured.secret = Some(secret));
        }
        let Some(Ok(mut file)) = self.file.as_ref().map(Mutex::lock) else {
            return;
        };
        let line = Zeroizing::new(format!("{label} {} {}\n", hex(client_random), hex(secret)));
        // A full disk must not end connections.
        let _ = file.write_all(line.as_bytes());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
        text
    })
}

/// The provider's suites. Those of TLS 1.2 also put down what they export from.
pub fn suites() -> &'static [SupportedCipherSuite] {
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
        let all = aws_lc_rs::DEFAULT_CIPHER_SUITES.iter();
        all.map(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => {
                SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                    common: CipherSuiteCommon {
                        suite: suite.common.suite,
                        hash_provider: suite.common.hash_provider,
                        confidentiality_limit: suite.common.confidentiality_limit,
                    },
                    prf_provider: Box::leak(Box::new(CapturingPrf(suite.prf_provider))),
                    kx: suite.kx,
                    sign: suite.sign,
                    aead_alg: suite.aead_alg,
                })))
            }
            suite @ SupportedCipherSuite::Tls13(_) => *suite,
        })
        .collect()
    });
    &SUITES
}

struct CapturingPrf(&'static dyn Prf);

impl Prf for CapturingPrf {
    fn for_key_exchange(
        &self,
        output: &mut [u8; 48],
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
        label: &[u8],
        seed: &[u8],
    ) -> Result<(), Error> {
        self.0
            .for_key_exchange(output, kx, peer_pub_key, label, seed)
    }

    fn for_secret(&self, output: &mut [u8], secret: &[u8], label: &[u8], seed: &[u8]) {
        if let (b"key expansion", Some((server, client))) = (label, seed.split_at_checked(32)) {
            let mut randoms = [0; 64];
            if client.len() == 32 {
                randoms[..32].copy_from_slice(client);
                randoms[32..].copy_from_slice(server);
                let master = Zeroizing::new(secret.to_vec());
                put(|captured| captured.secret = Some(ExporterSecret::Tls12 { master, randoms }));
            }
        }
        self.0.for_secret(output, secret, label, seed);
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}
