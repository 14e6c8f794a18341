//! The certificates that verification ends at: given ones, the system's, or somebody else's.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::error::TlsError;
use super::foreign::ForeignJudge;
use super::pem;

/// The certificates that verification ends at.
#[derive(Clone, Debug)]
pub enum Trust {
    /// What the operating system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    Certificates(Vec<CertificateDer<'static>>),
    /// Somebody else keeps them, and judges.
    Foreign(Arc<dyn ForeignJudge>),
}

/// A trust store that is ready for use.
#[derive(Clone, Debug)]
pub struct Anchors {
    pub roots: Arc<RootCertStore>,
    /// Certificates that are trusted also as the peer's own.
    pub exact: Vec<CertificateDer<'static>>,
    pub description: String,
    /// Who judges instead, and on what grounds it pleases.
    pub foreign: Option<Arc<dyn ForeignJudge>>,
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
                    foreign: None,
                })
            }
            Trust::Foreign(judge) => Ok(Self {
                roots: Arc::new(RootCertStore::empty()),
                exact: Vec::new(),
                description: "a foreign trust store".into(),
                foreign: Some(judge.clone()),
            }),
            Trust::Certificates(certificates) => {
                let mut roots = RootCertStore::empty();
                for (index, certificate) in certificates.iter().enumerate() {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| {
                        let number = index + 1;
                        let why = format!("certificate {number} cannot be trusted: {error}");
                        TlsError::config("ca", format!("is not usable: {why}"))
                    })?;
                }
                let count = certificates.len();
                let s = if count == 1 { "" } else { "s" };
                Ok(Self {
                    roots: Arc::new(roots),
                    exact: certificates.clone(),
                    description: format!("the {count} certificate{s} of ca"),
                    foreign: None,
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
    type Setting = [Option<OsString>; 2];
    static KNOWN: Mutex<Option<(Setting, Arc<RootCertStore>)>> = Mutex::new(None);
    let setting = [env::var_os("SSL_CERT_FILE"), env::var_os("SSL_CERT_DIR")];
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((of, roots)) if *of == setting => roots.clone(),
        _ => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(match &setting {
                [None, None] => rustls_native_certs::load_native_certs().certs,
                [file, folders] => named_certificates(file.as_deref(), folders.as_deref()),
            });
            let roots = Arc::new(roots);
            // An empty store may be filled later.
            if !roots.is_empty() {
                *known = Some((setting, roots.clone()));
            }
            roots
        }
    }
}

/// What is found where the variables point. OpenSSL, whose they are, says nothing of what it does
/// not find there either.
fn named_certificates(
    file: Option<&OsStr>,
    folders: Option<&OsStr>,
) -> Vec<CertificateDer<'static>> {
    let mut paths: Vec<PathBuf> = file.map(PathBuf::from).into_iter().collect();
    for folder in folders.into_iter().flat_map(env::split_paths) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path()));
    }
    // A pipe would keep everybody waiting.
    paths.retain(|path| path.is_file());
    let texts = paths.iter().filter_map(|path| fs::read(path).ok());
    let mut found: Vec<_> = texts.flat_map(|text| pem::usable_trusted(&text)).collect();
    // A folder has links to its files under other names.
    found.sort_unstable_by(|one, other| one.as_ref().cmp(other));
    found.dedup();
    found
}
