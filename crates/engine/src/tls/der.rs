//! The few fields of a certificate that verification does not report: names, dates, algorithm.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, which holds the version.
const VERSION: u8 = 0xa0;

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
}

pub fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut inner = Reader(outer.expect(SEQUENCE)?);
    let signature_algorithm = Reader(outer.expect(SEQUENCE)?).expect(OBJECT_ID)?;
    if inner.0.first() == Some(&VERSION) {
        inner.next()?;
    }
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
    fn no_prefix_of_a_certificate_is_misread() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_string()]).unwrap();
        let der = made.cert.der();
        let found = fields(der).unwrap();
        assert!(found.is_self_issued() && found.not_before < found.not_after);
        for end in 0..der.len() {
            assert!(fields(&der[..end]).is_none());
        }
    }
}
