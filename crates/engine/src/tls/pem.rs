//! Certificates, keys and revocation lists out of PEM text, dressed as OpenSSL takes it: with byte
//! order marks, blanks at line ends, remarks around the blocks, lines of any length.

use std::fmt;

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use super::der;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const TRUSTED_CERTIFICATE: &str = "TRUSTED CERTIFICATE";
const CERTIFICATES: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", TRUSTED_CERTIFICATE];
const REVOCATION_LIST: &str = "X509 CRL";
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// Why a text cannot be used, and which of its blocks it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PemError(String);

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PemError {}

/// A private key as it was found, maybe encrypted.
#[derive(Debug)]
pub struct KeyBlock {
    pub label: String,
    /// What says how a key in OpenSSL's old form is encrypted.
    pub headers: String,
    pub contents: Zeroizing<Vec<u8>>,
}

/// All certificates of a text, in their order.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = all(text, "certificate", |label| CERTIFICATES.contains(&label))?;
    found
        .iter()
        .map(|block| Ok(block.certificate()?.0))
        .collect()
}

/// All certificates of a text that may be trusted to vouch for servers, or for clients: a block
/// of the kind `TRUSTED CERTIFICATE` can say that it is not to be.
pub fn trusted(text: &[u8], servers: bool) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = all(text, "certificate", |label| CERTIFICATES.contains(&label))?;
    let mut trusted = Vec::new();
    for block in &found {
        let (certificate, settings) = block.certificate()?;
        if block.label != TRUSTED_CERTIFICATE || der::is_trusted(&settings, servers) {
            trusted.push(certificate);
        }
    }
    Ok(trusted)
}

/// What can be used of a text that may also hold what cannot.
pub fn usable_trusted(text: &[u8]) -> Vec<CertificateDer<'static>> {
    let blocks = blocks(text).into_iter().flatten();
    let wanted = blocks.filter(|block| CERTIFICATES.contains(&block.label.as_str()));
    let usable = wanted.filter_map(|block| {
        let (certificate, settings) = block.certificate().ok()?;
        let trusted = block.label != TRUSTED_CERTIFICATE || der::is_trusted(&settings, true);
        trusted.then_some(certificate)
    });
    usable.collect()
}

/// All revocation lists of a text.
pub fn revocation_lists(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let found = all(text, "certificate revocation list", |label| {
        label == REVOCATION_LIST
    })?;
    let list = |block: &Block| {
        let contents = block.contents()?;
        match der::element(&contents) {
            Some((list, _)) => Ok(list.to_vec().into()),
            None => Err(block.fault("does not hold a revocation list")),
        }
    };
    found.iter().map(list).collect()
}

/// The first private key of a text, as OpenSSL takes it.
pub fn private_key(text: &[u8]) -> Result<KeyBlock, PemError> {
    let found = all(text, "private key", |label| {
        // OpenSSH's own form is none of these, though it is called so.
        label.ends_with(PRIVATE_KEY) && label != "OPENSSH PRIVATE KEY"
    })?;
    let Some(block) = found.into_iter().next() else {
        return Err(PemError("holds no private key".into()));
    };
    let mut contents = block.contents()?;
    if !block.headers.contains("ENCRYPTED") {
        let Some((key, _)) = der::element(&contents) else {
            return Err(block.fault("does not hold a key"));
        };
        contents = Zeroizing::new(key.to_vec());
    }
    Ok(KeyBlock {
        contents,
        label: block.label,
        headers: block.headers,
    })
}

/// The blocks of one kind, of which there must be one at least.
fn all(text: &[u8], what: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Block>, PemError> {
    let blocks = blocks(text).into_iter().collect::<Result<Vec<_>, _>>()?;
    if blocks.is_empty() {
        return Err(no_block(text, what));
    }
    let (wanted, others): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .partition(|block| is_wanted(&block.label));
    if wanted.is_empty() {
        let mut labels: Vec<String> = others.into_iter().map(|block| block.label).collect();
        labels.dedup();
        let way_out = match &labels[..] {
            [one] if one == "OPENSSH PRIVATE KEY" => ": ssh-keygen -p -m PKCS8 rewrites it",
            [one] if one == "PKCS7" => ": openssl pkcs7 -print_certs rewrites it",
            _ => "",
        };
        let labels = labels.join(", ");
        return Err(PemError(format!("holds no {what}, only {labels}{way_out}")));
    }
    Ok(wanted)
}

/// Why there is not a single block in a text.
fn no_block(text: &[u8], what: &str) -> PemError {
    let is_begin = |line: &&[u8]| line.windows(BEGIN.len()).any(|part| part == BEGIN);
    let is_text = text.iter().all(|byte| *byte >= b'\t');
    let reason = if !is_text && der::element(text).is_some() {
        "it is in DER, and PEM is its base64 between BEGIN and END lines".to_owned()
    } else if !is_text {
        "it is no text in ASCII or UTF-8".to_owned()
    } else if let Some(index) = lines(text).position(|line| is_begin(&line)) {
        format!(
            "line {} is more, or less, than dashes, BEGIN, a kind and dashes",
            index + 1
        )
    } else {
        "there is no BEGIN line".to_owned()
    };
    PemError(format!("holds no {what} in PEM: {reason}"))
}

/// What stands between a BEGIN and an END line.
struct Block {
    /// Of the text's blocks, from 1.
    number: usize,
    /// That of the BEGIN line, from 1.
    line: usize,
    label: String,
    headers: String,
    base64: Zeroizing<Vec<u8>>,
}

impl Block {
    fn take(&mut self, line: &[u8]) {
        // Base64 has no colon. An encrypted key has such lines above it.
        if line.contains(&b':') {
            self.headers.push_str(&String::from_utf8_lossy(line));
            self.headers.push('\n');
        } else {
            let digits = line.iter().filter(|byte| !byte.is_ascii_whitespace());
            self.base64.extend(digits);
        }
    }

    /// The certificate, and what OpenSSL puts behind one about the trust in it.
    fn certificate(&self) -> Result<(CertificateDer<'static>, Vec<u8>), PemError> {
        let contents = self.contents()?;
        match der::element(&contents) {
            Some((certificate, rest)) if der::public_key(certificate).is_some() => {
                Ok((certificate.to_vec().into(), rest.to_vec()))
            }
            _ => Err(self.fault("does not hold a certificate")),
        }
    }

    fn contents(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        // Decoding a key takes the same time whatever it is.
        let kind = if self.label.ends_with(PRIVATE_KEY) {
            PRIVATE_KEY
        } else {
            CERTIFICATES[0]
        };
        // A dash ends it, for OpenSSL too.
        let base64 = self.base64.split(|byte| *byte == b'-').next();
        let mut plain = Zeroizing::new(Vec::with_capacity(self.base64.len() + 80));
        plain.extend_from_slice(format!("-----BEGIN {kind}-----\n").as_bytes());
        plain.extend_from_slice(base64.unwrap_or_default());
        plain.extend_from_slice(format!("\n-----END {kind}-----\n").as_bytes());
        match <(SectionKind, Vec<u8>)>::from_pem_slice(&plain) {
            Ok((_, contents)) => Ok(Zeroizing::new(contents)),
            Err(_) => Err(self.fault("is not base64 between its BEGIN and END lines")),
        }
    }

    fn fault(&self, what: &str) -> PemError {
        PemError(format!(
            "is not usable: block {} ({}, line {}) {what}",
            self.number, self.label, self.line
        ))
    }
}

/// All blocks, or what is wrong with them. What stands around them is nobody's business.
fn blocks(text: &[u8]) -> Vec<Result<Block, PemError>> {
    let mut blocks: Vec<Result<Block, PemError>> = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in lines(text).enumerate() {
        let begins = label(line);
        match (&mut open, begins) {
            (Some(block), None) => match line.strip_prefix(END) {
                Some(rest) if ends(rest, &block.label) => blocks.extend(open.take().map(Ok)),
                Some(_) => {
                    let said = String::from_utf8_lossy(line);
                    let fault = block.fault(&format!("ends with {said:?}"));
                    blocks.push(Err(fault));
                    open = None;
                }
                None => block.take(line),
            },
            (None, None) => {}
            (_, Some(label)) => {
                if let Some(block) = &open {
                    blocks.push(Err(block.fault("has no END line")));
                }
                open = Some(Block {
                    number: blocks.len() + 1,
                    line: index + 1,
                    label,
                    headers: String::new(),
                    base64: Zeroizing::default(),
                });
            }
        }
    }
    if let Some(block) = open {
        blocks.push(Err(block.fault("has no END line: the PEM is cut off")));
    }
    blocks
}

/// What is behind the dashes of an END line does not count.
fn ends(rest: &[u8], label: &str) -> bool {
    rest.strip_prefix(label.as_bytes())
        .is_some_and(|rest| rest.starts_with(DASHES))
}

fn label(line: &[u8]) -> Option<String> {
    // Files that were put together have one before each.
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let label = line.strip_prefix(BEGIN)?.strip_suffix(DASHES)?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// The lines, without what OpenSSL takes for blanks at their ends: also whatever is not ASCII, such
/// as the no-break space of a web page.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let line = &text[..end.unwrap_or(text.len())];
        rest = end.map(|end| {
            let width = if text[end..].starts_with(b"\r\n") {
                2
            } else {
                1
            };
            &text[end + width..]
        });
        let last = line.iter().rposition(|byte| matches!(byte, b'!'..=b'~'));
        Some(&line[..last.map_or(0, |last| last + 1)])
    })
}

#[cfg(test)]
#[cfg(not(miri))] // AWS-LC, which is C, makes the keys
mod tests {
    use super::*;

    fn made() -> [(String, CertificateDer<'static>); 2] {
        ["a.test", "b.test"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
            (made.cert.pem(), made.cert.der().clone())
        })
    }

    fn reason<T: fmt::Debug>(result: Result<T, PemError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn whatever_stands_around_blocks_does_not_count() {
        let [(one, first), (other, second)] = made();
        let mark = "\u{feff}";
        let both = |text: String| {
            assert_eq!(
                certificates(text.as_bytes()).unwrap(),
                [first.clone(), second.clone()]
            );
        };
        both(format!("# first\n{one}\n{other}"));
        both(format!("{mark}{one}{mark}{other}"));
        both(format!("{one}{other}").replace('\n', " \t\u{a0}\r\n"));
        both(format!("{one}\0\n{other}\0"));
        both(format!("{one}{other}").replace('\n', "\r"));
        both(format!("{one}{other}").replace("CERTIFICATE", "X509 CERTIFICATE"));
        both(format!(
            "-----BEGIN NOTHING-----\n*\n-----END NOTHING-----\n{one}{other}"
        ));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let [(one, _), (other, _)] = made();
        let cut = format!("{one}{}", &other[..100]);
        let line = one.lines().count() + 1;
        assert_eq!(
            reason(certificates(cut.as_bytes())),
            format!(
                "is not usable: block 2 (CERTIFICATE, line {line}) has no END line: the PEM is cut off"
            )
        );
        let missing = format!("{}{other}", one.replace("-----END CERTIFICATE-----\n", ""));
        assert!(
            reason(certificates(missing.as_bytes()))
                .contains("block 1 (CERTIFICATE, line 1) has no END")
        );
        let swapped = one.replace("END CERTIFICATE", "END X509 CRL");
        assert!(reason(certificates(swapped.as_bytes())).contains("ends with \"-----END X509 CRL"));
        let starred = one.replace("MII", "M*I");
        assert!(reason(certificates(starred.as_bytes())).contains("is not base64"));
        let hollow = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(reason(certificates(hollow.as_bytes())).contains("does not hold a certificate"));
        for (text, words) in [
            (&b""[..], "no certificate in PEM: there is no BEGIN line"),
            (&[0x30, 3, 2, 1, 0], "it is in DER"),
            (b"\xff\xfe-\0-\0", "it is no text"),
            (b"x\n -----BEGIN CERTIFICATE-----", "line 2 is more"),
        ] {
            let said = reason(certificates(text));
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(
            reason(revocation_lists(one.as_bytes())),
            "holds no certificate revocation list, only CERTIFICATE"
        );
        let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAA==\n-----END OPENSSH PRIVATE KEY-----\n";
        assert!(reason(private_key(ssh.as_bytes())).contains("ssh-keygen"));
    }

    #[test]
    fn the_first_key_is_taken_with_its_headers() {
        let text = "-----BEGIN EC PARAMETERS-----\nAA==\n-----END EC PARAMETERS-----\n\
                    -----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\n\
                    MAA=\n-----END EC PRIVATE KEY-----\n";
        let twice = format!("{text}{}", text.replace("MAA=", "MAMCAQA="));
        let found = private_key(twice.as_bytes()).unwrap();
        assert_eq!(found.label, "EC PRIVATE KEY");
        assert_eq!(found.headers, "Proc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n");
        assert_eq!(found.contents[..], [0x30, 0]);
    }
}
