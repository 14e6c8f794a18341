//! Where records end in ciphertext that somebody else opens.

/// Type, version, length.
const HEADER: usize = 5;
/// Records of TLS 1.2 may be so long behind their header; no others are longer.
const LONGEST: usize = 16 * 1024 + 2048;

const SEVERAL: usize = 2;

/// A place in a stream of records, which comes in pieces of any size.
#[derive(Clone, Copy, Default, Debug)]
pub struct Framing {
    header: [u8; HEADER],
    /// Bytes of a record that has not come whole.
    unfinished: usize,
    /// What came is no record.
    astray: bool,
}

/// What was passed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Passed {
    pub len: usize,
    /// Records that have come whole by that. Where no record can be made out, everything counts as
    /// several: whoever opens it has to find out, and say what is wrong.
    pub records: usize,
}

impl Framing {
    /// Goes on over as many whole records as `limit` allows, but over one at least; over the part of
    /// one if no more has come.
    pub fn advance(&mut self, data: &[u8], limit: usize) -> Passed {
        let mut passed = Passed::default();
        while passed.len < data.len() {
            let mut next = *self;
            let n = next.pass_record(&data[passed.len..]);
            let is_whole = next.unfinished == 0;
            if passed.len > 0 && (passed.len + n > limit || !is_whole) {
                break;
            }
            *self = next;
            passed.len += n;
            passed.records += if next.astray {
                SEVERAL
            } else {
                usize::from(is_whole)
            };
            if !is_whole {
                break;
            }
        }
        passed
    }

    fn pass_record(&mut self, data: &[u8]) -> usize {
        if self.astray {
            return data.len();
        }
        let mut passed = 0;
        if self.unfinished < HEADER {
            passed = data.len().min(HEADER - self.unfinished);
            self.header[self.unfinished..][..passed].copy_from_slice(&data[..passed]);
            self.unfinished += passed;
            if self.unfinished < HEADER {
                return passed;
            }
        }
        let [kind, major, _, high, low] = self.header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=24).contains(&kind) || major != 3 || length > LONGEST {
            self.astray = true;
            self.unfinished = 0;
            return data.len();
        }
        let missing = HEADER + length - self.unfinished;
        let n = missing.min(data.len() - passed);
        self.unfinished = if n == missing { 0 } else { self.unfinished + n };
        passed + n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut record = vec![23, 3, 3, high, low];
        record.resize(HEADER + usize::from(length), 23);
        record
    }

    #[test]
    fn knows_what_is_whole_wherever_the_stream_is_cut() {
        let stream = [record(0), record(7), record(300), record(1)].concat();
        let all = |framing: &mut Framing, data: &[u8]| {
            let (mut at, mut records) = (0, 0);
            while at < data.len() {
                let passed = framing.advance(&data[at..], usize::MAX);
                at += passed.len;
                records += passed.records;
            }
            records
        };
        for cut in 0..=stream.len() {
            let mut framing = Framing::default();
            let before = all(&mut framing, &stream[..cut]);
            let mut ends = [5, 17, 322, 328].into_iter().filter(|end| *end <= cut);
            assert_eq!(before, ends.clone().count());
            assert_eq!(cut - framing.unfinished, ends.next_back().unwrap_or(0));
            assert_eq!(before + all(&mut framing, &stream[cut..]), 4);
            assert_eq!(framing.unfinished, 0);
        }
    }

    #[test]
    fn a_limit_falls_between_records() {
        let stream = [record(10), record(10), record(100), record(10)].concat();
        let mut framing = Framing::default();
        let mut advance = |data: &[u8], limit| {
            let passed = framing.advance(data, limit);
            (passed.len, passed.records, framing.unfinished)
        };
        assert_eq!(advance(&stream, 44), (30, 2, 0));
        // One longer than the limit is passed all the same, and so is the part of one.
        assert_eq!(advance(&stream[30..], 44), (105, 1, 0));
        assert_eq!(advance(&stream[135..140], 2), (5, 0, 5));
        // What has begun behind a whole one is left for the next time.
        assert_eq!(advance(&stream[5..20], 44), (10, 1, 0));
    }

    #[test]
    fn what_is_no_record_is_not_waited_for() {
        for garbage in [*b"GET /", [23, 2, 0, 0, 9], [23, 3, 3, 0xff, 0xff]] {
            let mut framing = Framing::default();
            let mut advance = |data: &[u8]| {
                let passed = framing.advance(data, 100);
                (passed.len, passed.records, framing.unfinished)
            };
            assert_eq!(advance(&garbage[..4]), (4, 0, 4));
            assert_eq!(advance(&garbage[4..]), (1, SEVERAL, 0));
            assert_eq!(advance(&record(9)[..10]), (10, SEVERAL, 0));
        }
    }
}
