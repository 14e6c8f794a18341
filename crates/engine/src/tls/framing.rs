//! Where records end in ciphertext that somebody else opens.

/// Type, version, length.
const HEADER: usize = 5;
/// Records of TLS 1.2 may be so long behind their header; no others are longer.
const LONGEST: usize = 16 * 1024 + 2048;

/// A place in a stream of records, which comes in pieces of any size.
#[derive(Clone, Copy, Default, Debug)]
pub struct Framing {
    header: [u8; HEADER],
    /// Bytes of a record that has not come whole.
    unfinished: usize,
    /// What came is no record.
    astray: bool,
}

impl Framing {
    /// Goes on over as many whole records as `limit` allows, but over one at least; over everything
    /// where the last one has not come whole. Returns how many bytes that are.
    pub fn advance(&mut self, data: &[u8], limit: usize) -> usize {
        let mut passed = 0;
        while passed < data.len() {
            let mut next = *self;
            let n = next.pass_record(&data[passed..]);
            if passed > 0 && passed + n > limit {
                break;
            }
            *self = next;
            passed += n;
        }
        passed
    }

    /// Bytes at the end of what came that make no whole record. None where no record could be made
    /// out: whoever opens it has to find out, and say what is wrong.
    pub fn unfinished(&self) -> usize {
        self.unfinished
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
        for cut in 0..=stream.len() {
            let mut framing = Framing::default();
            assert_eq!(framing.advance(&stream[..cut], usize::MAX), cut);
            let whole = [0, 5, 17, 322, 328].into_iter().rfind(|end| *end <= cut);
            assert_eq!(Some(cut - framing.unfinished()), whole);
            assert_eq!(
                framing.advance(&stream[cut..], usize::MAX),
                stream.len() - cut
            );
            assert_eq!(framing.unfinished(), 0);
        }
    }

    #[test]
    fn a_limit_falls_between_records() {
        let stream = [record(10), record(10), record(100), record(10)].concat();
        let mut framing = Framing::default();
        assert_eq!(framing.advance(&stream, 44), 30);
        // One longer than the limit is passed all the same, and so is the part of one.
        assert_eq!(framing.advance(&stream[30..], 44), 105);
        assert_eq!(framing.advance(&stream[135..140], 2), 5);
        assert_eq!(framing.unfinished(), 5);
    }

    #[test]
    fn what_is_no_record_is_not_waited_for() {
        for garbage in [*b"GET /", [23, 2, 0, 0, 9], [23, 3, 3, 0xff, 0xff]] {
            let mut framing = Framing::default();
            assert_eq!(framing.advance(&garbage[..4], 100), 4);
            assert_eq!(framing.unfinished(), 4);
            assert_eq!(framing.advance(&garbage[4..], 100), 1);
            assert_eq!(framing.unfinished(), 0);
            assert_eq!(framing.advance(&record(9)[..10], 100), 10);
            assert_eq!(framing.unfinished(), 0);
        }
    }
}
