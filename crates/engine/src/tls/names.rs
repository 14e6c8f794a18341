//! Names: OpenSSL's cipher strings, versions and key exchange groups.

use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::error::TlsError;

/// The suites of the engine: number, OpenSSL's name, the standard name, in order of preference.
const SUITES: [(CipherSuite, &str, &str); 9] = [
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// How many of them are of TLS 1.3; they come first.
const TLS13_SUITES: usize = 3;

/// What OpenSSL's cipher names are made of, beyond what the engine has.
const WORDS: [&str; 45] = [
    "ECDHE",
    "DHE",
    "EDH",
    "ADH",
    "AECDH",
    "ECDH",
    "DH",
    "RSA",
    "ECDSA",
    "DSS",
    "PSK",
    "SRP",
    "AES128",
    "AES256",
    "AES",
    "128",
    "256",
    "GCM",
    "CCM",
    "CCM8",
    "CBC",
    "CBC3",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "MD5",
    "RC4",
    "DES",
    "3DES",
    "CAMELLIA128",
    "CAMELLIA256",
    "CAMELLIA",
    "ARIA128",
    "ARIA256",
    "ARIA",
    "SEED",
    "IDEA",
    "NULL",
    "CHACHA20",
    "POLY1305",
    "TLS",
    "WITH",
    "8",
    "EDE",
];

/// The bits of a suite's key, as OpenSSL counts them.
pub fn suite_bits(suite: CipherSuite) -> u32 {
    if suite_names(suite).0.contains("128") {
        128
    } else {
        256
    }
}

/// OpenSSL's and the standard name of a suite.
pub fn suite_names(suite: CipherSuite) -> (&'static str, &'static str) {
    SUITES.iter().find(|known| known.0 == suite).map_or_else(
        || (suite.as_str().unwrap_or("?"), "?"),
        |known| (known.1, known.2),
    )
}

pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        other => other.as_str().unwrap_or("?"),
    }
}

/// The name of a group and its size in bits as OpenSSL counts it.
pub fn group_name(group: NamedGroup) -> (&'static str, u32) {
    match group {
        NamedGroup::X25519 => ("X25519", 253),
        NamedGroup::secp256r1 => ("prime256v1", 256),
        NamedGroup::secp384r1 => ("secp384r1", 384),
        NamedGroup::X25519MLKEM768 => ("X25519MLKEM768", 192),
        NamedGroup::secp256r1MLKEM768 => ("SecP256r1MLKEM768", 192),
        other => (other.as_str().unwrap_or("?"), 0),
    }
}

/// Reads a cipher string such as `ECDHE+AESGCM:!aNULL`.
///
/// As with OpenSSL's two lists, the names of one version restrict that version alone. What
/// OpenSSL knows and the engine has not (CBC, finite fields, static RSA) is passed over as long
/// as something usable remains.
pub fn cipher_suites(text: &str) -> Result<Vec<CipherSuite>, TlsError> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut killed: Vec<usize> = Vec::new();
    let mut legacy: Option<&str> = None;
    for token in text
        .split([':', ',', ' ', ';'])
        .filter(|token| !token.is_empty())
    {
        if token.starts_with('@') {
            continue;
        }
        if let Some(name) = token.strip_prefix('!') {
            killed.extend(select(name).unwrap_or_default());
        } else if let Some(name) = token.strip_prefix('-') {
            let removed = select(name).unwrap_or_default();
            chosen.retain(|suite| !removed.contains(suite));
        } else if let Some(name) = token.strip_prefix('+') {
            let moved = select(name).unwrap_or_default();
            let (last, first): (Vec<_>, Vec<_>) =
                chosen.iter().partition(|suite| moved.contains(suite));
            chosen = [first, last].concat();
        } else if let Some(found) = select(token) {
            if found.is_empty() {
                legacy = legacy.or(Some(token));
            }
            for suite in found {
                if !chosen.contains(&suite) {
                    chosen.push(suite);
                }
            }
        } else {
            return Err(refused(format!("has an unknown cipher, {token:?}")));
        }
    }
    chosen.retain(|suite| !killed.contains(suite));
    if chosen.is_empty() {
        return Err(refused(match legacy {
            Some(name) => format!(
                "got {name:?}, which the engine cannot do: use ECDHE with AES-GCM or ChaCha20-Poly1305, or pass \
                 an ssl.SSLContext"
            ),
            None => format!("leaves no cipher, got {text:?}"),
        }));
    }
    let is_tls13 = |suite: &usize| *suite < TLS13_SUITES;
    if !chosen.iter().any(is_tls13) {
        chosen.extend((0..TLS13_SUITES).filter(|suite| !killed.contains(suite)));
    } else if chosen.iter().all(is_tls13) {
        chosen.extend((TLS13_SUITES..SUITES.len()).filter(|suite| !killed.contains(suite)));
    }
    Ok(chosen.into_iter().map(|suite| SUITES[suite].0).collect())
}

/// The suites that have all attributes of `A+B`; none for what OpenSSL knows and the engine has
/// not; `None` for what nobody knows.
fn select(names: &str) -> Option<Vec<usize>> {
    let mut found: Vec<usize> = (0..SUITES.len()).collect();
    for name in names.split('+') {
        let matching = select_one(name)?;
        found.retain(|suite| matching.contains(suite));
    }
    Some(found)
}

fn select_one(name: &str) -> Option<Vec<usize>> {
    let exact = |known: &&(CipherSuite, &str, &str)| {
        known.1.eq_ignore_ascii_case(name) || known.2.eq_ignore_ascii_case(name)
    };
    if let Some(known) = SUITES.iter().find(exact) {
        return Some(vec![SUITES.iter().position(|suite| suite.0 == known.0)?]);
    }
    // An attribute of TLS 1.2's names.
    let tls12 = |word: &str| {
        Some(
            (TLS13_SUITES..SUITES.len())
                .filter(|&suite| SUITES[suite].1.contains(word))
                .collect(),
        )
    };
    match name {
        "DEFAULT" | "HIGH" | "ALL" | "ECDHE" | "kECDHE" | "EECDH" | "kEECDH" | "TLSv1.2" => {
            tls12("")
        }
        "ECDSA" | "aECDSA" => tls12("ECDSA"),
        "RSA" | "aRSA" => tls12("RSA"),
        "AES" | "AESGCM" => tls12("GCM"),
        "AES128" => tls12("AES128"),
        "AES256" => tls12("AES256"),
        "CHACHA20" => tls12("CHACHA20"),
        "SHA256" => tls12("SHA256"),
        "SHA384" => tls12("SHA384"),
        "aNULL"
        | "eNULL"
        | "NULL"
        | "LOW"
        | "MEDIUM"
        | "EXP"
        | "EXPORT"
        | "COMPLEMENTOFDEFAULT"
        | "COMPLEMENTOFALL"
        | "aDSS"
        | "kRSA"
        | "kDHE"
        | "kEDH"
        | "kPSK"
        | "aPSK"
        | "kDHEPSK"
        | "kECDHEPSK"
        | "kRSAPSK"
        | "kSRP"
        | "aSRP"
        | "SSLv3"
        | "TLSv1"
        | "TLSv1.0"
        | "SSLv2"
        | "AESCCM"
        | "AESCCM8"
        | "ARIAGCM"
        | "SUITEB128"
        | "SUITEB192"
        | "SHA1"
        | "GOST" => Some(Vec::new()),
        _ => name
            .to_ascii_uppercase()
            .split(['-', '_'])
            .all(|word| WORDS.contains(&word))
            .then(Vec::new),
    }
}

fn refused(reason: String) -> TlsError {
    TlsError::config("ciphers", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let suites = cipher_suites(text).unwrap();
        suites
            .into_iter()
            .map(|suite| suite_names(suite).0)
            .collect()
    }

    #[test]
    fn names_of_one_version_leave_the_other_alone() {
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256"),
            [
                "ECDHE-RSA-AES128-GCM-SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256"
            ]
        );
        let only13 = names("TLS_AES_128_GCM_SHA256");
        assert_eq!((only13[0], only13.len()), ("TLS_AES_128_GCM_SHA256", 7));
        assert_eq!(
            names("TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"),
            ["TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
        );
    }

    #[test]
    fn aliases_select_remove_and_reorder() {
        let twelve = |text| {
            let mut found = names(text);
            found.retain(|name| !name.starts_with("TLS_"));
            found
        };
        assert_eq!(twelve("HIGH:!aNULL:!MD5:@SECLEVEL=2").len(), 6);
        assert_eq!(twelve("ECDHE+AESGCM:!aRSA").len(), 2);
        assert_eq!(
            twelve("HIGH:-CHACHA20:+AES128").last(),
            Some(&"ECDHE-RSA-AES128-GCM-SHA256")
        );
        assert_eq!(
            twelve("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:AES128-SHA"),
            ["ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(
            names("DEFAULT:!CHACHA20:!TLS_CHACHA20_POLY1305_SHA256").len(),
            6
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, named) in [
            (
                "AES128-SHA:DHE-RSA-AES256-SHA",
                "got \"AES128-SHA\", which the engine cannot do",
            ),
            ("RC4-MD5", "got \"RC4-MD5\", which the engine cannot do"),
            (
                "ECDHE-RSA-AES128-GCM-SHA25",
                "has an unknown cipher, \"ECDHE-RSA-AES128-GCM-SHA25\"",
            ),
            ("HIGH:!HIGH", "leaves no cipher"),
            ("", "leaves no cipher"),
        ] {
            let error = cipher_suites(text).unwrap_err().to_string();
            assert!(
                error.starts_with("option 'ciphers' ") && error.contains(named),
                "{error}"
            );
        }
    }
}
