//! The few fields of a certificate that verification does not report: names, dates, key, extensions.

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, which holds the version.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`, which holds the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[0] IMPLICIT`, which holds what a trusted certificate is rejected for.
const REJECTED: u8 = 0xa0;

/// 1.3.6.1.5.5.7.3: serverAuth and clientAuth are 1 and 2 of it.
const KEY_PURPOSE: [u8; 7] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03];
const ANY_PURPOSE: [u8; 4] = [0x55, 0x1d, 0x25, 0x00];

/// What was found in a certificate; slices of its encoding.
#[derive(Debug)]
pub struct Fields<'a> {
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// The content of the object identifier.
    pub signature_algorithm: &'a [u8],
}

impl Fields<'_> {
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let digits = usize::from(first & 0x7f);
            if digits == 0 || digits > 4 || rest.len() < digits {
                return None;
            }
            let (number, behind) = rest.split_at(digits);
            len = number
                .iter()
                .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            rest = behind;
        }
        if rest.len() < len {
            return None;
        }
        let (content, rest) = rest.split_at(len);
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// The whole of the next element, its tag and length included.
    fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.expect(tag)?;
        Some(&before[..before.len() - self.0.len()])
    }

    /// The content, if that is what comes next.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) {
            self.expect(tag)
        } else {
            None
        }
    }
}

/// The sequence at the front of some bytes, and what is behind it.
pub fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(bytes);
    Some((reader.whole(SEQUENCE)?, reader.0))
}

pub fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut inner = Reader(outer.expect(SEQUENCE)?);
    let signature_algorithm = Reader(outer.expect(SEQUENCE)?).expect(OBJECT_ID)?;
    inner.optional(VERSION);
    inner.expect(INTEGER)?;
    inner.expect(SEQUENCE)?;
    let issuer = inner.expect(SEQUENCE)?;
    let mut validity = Reader(inner.expect(SEQUENCE)?);
    let subject = inner.expect(SEQUENCE)?;
    Some(Fields {
        issuer,
        subject,
        not_before: time(validity.next()?)?,
        not_after: time(validity.next()?)?,
        signature_algorithm,
    })
}

/// A certificate's `SubjectPublicKeyInfo`, whatever becomes of the rest.
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    through_key(certificate).map(|(key, _)| key)
}

/// The algorithm of a `SubjectPublicKeyInfo`, and the key itself.
pub fn key_parts(public_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(Reader(public_key).expect(SEQUENCE)?);
    let algorithm = reader.expect(SEQUENCE)?;
    let (unused_bits, key) = reader.expect(BIT_STRING)?.split_first()?;
    (*unused_bits == 0).then_some((algorithm, key))
}

/// The kind of a certificate's key: an object identifier, as people write it.
pub fn key_algorithm(certificate: &[u8]) -> Option<String> {
    let (algorithm, _) = key_parts(public_key(certificate)?)?;
    Reader(algorithm).expect(OBJECT_ID).map(dotted)
}

/// Whether a certificate is of X.509 version 3: earlier ones have no extensions.
pub fn is_version_3(certificate: &[u8]) -> Option<bool> {
    let mut inner = Reader(Reader(Reader(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    let version = inner
        .optional(VERSION)
        .and_then(|it| Reader(it).expect(INTEGER));
    Some(version == Some(&[2]))
}

/// The object identifiers of a certificate's critical extensions.
pub fn critical_extensions(certificate: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, mut behind_key) = through_key(certificate)?;
    while behind_key.0.first().is_some_and(|tag| *tag != EXTENSIONS) {
        behind_key.next()?;
    }
    let mut critical = Vec::new();
    let Some(extensions) = behind_key.optional(EXTENSIONS) else {
        return Some(critical);
    };
    let mut extensions = Reader(Reader(extensions).expect(SEQUENCE)?);
    while !extensions.0.is_empty() {
        let mut extension = Reader(extensions.expect(SEQUENCE)?);
        let name = extension.expect(OBJECT_ID)?;
        if extension.optional(BOOLEAN).is_some_and(|flag| flag != [0]) {
            critical.push(name);
        }
        extension.expect(OCTET_STRING)?;
    }
    Some(critical)
}

/// Whether OpenSSL's settings behind a certificate let it vouch for servers, or for clients.
pub fn is_trusted(settings: &[u8], servers: bool) -> bool {
    let Some(settings) = Reader(settings).expect(SEQUENCE) else {
        // None: nothing is said against it.
        return settings.is_empty();
    };
    let mut settings = Reader(settings);
    let trusted = settings
        .optional(SEQUENCE)
        .map(|it| names_purpose(it, servers));
    let rejected = settings
        .optional(REJECTED)
        .map(|it| names_purpose(it, servers));
    trusted != Some(false) && rejected != Some(true)
}

fn names_purpose(identifiers: &[u8], servers: bool) -> bool {
    let wanted = [&KEY_PURPOSE[..], &[if servers { 1 } else { 2 }]].concat();
    let mut identifiers = Reader(identifiers);
    while let Some(purpose) = identifiers.expect(OBJECT_ID) {
        if purpose == wanted || purpose == ANY_PURPOSE {
            return true;
        }
    }
    false
}

/// The `SubjectPublicKeyInfo`, and what is behind it.
fn through_key(certificate: &[u8]) -> Option<(&[u8], Reader<'_>)> {
    let mut inner = Reader(Reader(Reader(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    inner.optional(VERSION);
    inner.expect(INTEGER)?;
    // The algorithm, the issuer, the dates, the subject.
    for _ in 0..4 {
        inner.expect(SEQUENCE)?;
    }
    Some((inner.whole(SEQUENCE)?, inner))
}

/// An object identifier as people write it.
pub fn dotted(identifier: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0u64;
    for byte in identifier {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                // The first two are one: only below 2 is the second below 40.
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |sum, &digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix(b"Z")?;
    if digits.len() != 10 {
        return None;
    }
    let mut parts = digits.chunks(2).map(number);
    let mut part = || parts.next().flatten();
    let (month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?);
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar. The year is counted from March, so that the
/// leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn dates_are_read_in_both_notations() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(
            time((GENERALIZED_TIME, b"20240229120000Z")),
            Some(1_709_208_000)
        );
        assert_eq!(
            time((GENERALIZED_TIME, b"99991231235959Z")),
            Some(253_402_300_799)
        );
        for bad in [&b""[..], b"7001010000Z", b"70010100000xZ", b"700101000000"] {
            assert_eq!(time((UTC_TIME, bad)), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "AWS-LC makes the key")]
    fn no_prefix_of_a_certificate_is_misread() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_string()]).unwrap();
        let der = made.cert.der();
        let found = fields(der).unwrap();
        assert!(found.is_self_issued() && found.not_before < found.not_after);
        assert_eq!(
            public_key(der).unwrap(),
            made.signing_key.subject_public_key_info()
        );
        assert_eq!(is_version_3(der), Some(true));
        assert_eq!(critical_extensions(der), Some(Vec::new()));
        for end in 0..der.len() {
            let cut = &der[..end];
            assert!(fields(cut).is_none() && public_key(cut).is_none());
            assert!(critical_extensions(cut).is_none() && element(cut).is_none());
        }
    }

    #[test]
    fn object_identifiers_are_written_as_usual() {
        assert_eq!(dotted(&[0x55, 0x1d, 0x20]), "2.5.29.32");
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]),
            "1.2.840.113549"
        );
        assert_eq!(dotted(&[]), "");
    }

    #[test]
    fn settings_of_trust_are_obeyed() {
        // OpenSSL's: trusted for serverAuth, then rejected for clientAuth, then both.
        const SERVER: [u8; 10] = [OBJECT_ID, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        const CLIENT: [u8; 10] = [OBJECT_ID, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
        let listed = |tag: u8, purpose: &[u8]| [&[tag, 10], purpose].concat();
        let settings = |content: Vec<u8>| {
            let len = u8::try_from(content.len()).unwrap();
            [vec![SEQUENCE, len], content].concat()
        };
        let only_servers = settings(listed(SEQUENCE, &SERVER));
        let no_clients = settings(listed(REJECTED, &CLIENT));
        for given in [&only_servers, &no_clients] {
            assert!(is_trusted(given, true) && !is_trusted(given, false));
        }
        let contradicting = [listed(SEQUENCE, &SERVER), listed(REJECTED, &SERVER)].concat();
        assert!(!is_trusted(&settings(contradicting), true));
        for none in [&[][..], &[SEQUENCE, 0]] {
            assert!(is_trusted(none, true) && is_trusted(none, false));
        }
        assert!(!is_trusted(b"nonsense", true));
    }
}
