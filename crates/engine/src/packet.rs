//! Where packets begin and end in what a peer sends. Pure: bytes in, ranges out.

use std::ops::{Deref, Range};

use memchr::memchr;

/// How a connection's data is cut into packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Framing {
    /// Not at all.
    #[default]
    Raw,
    /// Behind each `\n`, which is no part of the packet, nor is a `\r` right before it.
    Line,
    /// By its length, which goes before each packet, in either direction.
    Prefixed(Width),
}

/// The bytes of a length, the highest one first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    One = 1,
    Two = 2,
    Four = 4,
}

/// What the front of some bytes is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cut {
    /// A packet; the next one begins at `end`.
    Packet { body: Range<usize>, end: usize },
    /// The first part of one. Up to there its end needs no second look.
    Unfinished { searched: usize },
    /// The first part of one that is longer than it may be.
    TooLarge,
}

/// The length that goes before a packet: none, one, two or four bytes.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    bytes: [u8; 4],
    width: usize,
}

/// A packet is longer than its prefix can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unspeakable {
    pub longest: usize,
}

impl Framing {
    /// Looks at the front of `bytes`, whose first `searched` are known to hold no end.
    #[inline]
    pub fn cut(self, bytes: &[u8], searched: usize, limit: usize) -> Cut {
        match self {
            Self::Raw if bytes.is_empty() => Cut::Unfinished { searched: 0 },
            Self::Raw => Cut::Packet {
                body: 0..bytes.len(),
                end: bytes.len(),
            },
            Self::Line => cut_line(bytes, searched, limit),
            Self::Prefixed(width) => cut_prefixed(bytes, width as usize, limit),
        }
    }

    /// What goes before a packet of this length that is sent.
    pub fn prefix(self, len: usize) -> Result<Prefix, Unspeakable> {
        let Self::Prefixed(width) = self else {
            return Ok(Prefix {
                bytes: [0; 4],
                width: 0,
            });
        };
        let width = width as usize;
        let longest = u32::MAX >> (32 - 8 * width);
        match u32::try_from(len).ok().filter(|len| *len <= longest) {
            Some(len) => Ok(Prefix {
                bytes: len.to_be_bytes(),
                width,
            }),
            None => Err(Unspeakable {
                longest: longest as usize,
            }),
        }
    }
}

impl Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[4 - self.width..]
    }
}

fn cut_line(bytes: &[u8], searched: usize, limit: usize) -> Cut {
    // Behind that no end makes it short enough.
    let window = bytes.len().min(limit.saturating_add(2));
    let body = match memchr(b'\n', &bytes[searched..window]) {
        Some(distance) => &bytes[..searched + distance],
        None => bytes,
    };
    let end = body.len() + 1;
    // Of an unfinished line that may be the half of its end.
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    if body.len() > limit {
        Cut::TooLarge
    } else if end > bytes.len() {
        Cut::Unfinished {
            searched: bytes.len(),
        }
    } else {
        Cut::Packet {
            body: 0..body.len(),
            end,
        }
    }
}

fn cut_prefixed(bytes: &[u8], width: usize, limit: usize) -> Cut {
    let unfinished = Cut::Unfinished { searched: 0 };
    let Some((prefix, rest)) = bytes.split_at_checked(width) else {
        return unfinished;
    };
    let mut length = 0;
    for byte in prefix {
        length = length << 8 | usize::from(*byte);
    }
    if length > limit {
        Cut::TooLarge
    } else if length > rest.len() {
        unfinished
    } else {
        let end = width + length;
        Cut::Packet {
            body: width..end,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: Range<usize>, end: usize) -> Cut {
        Cut::Packet { body, end }
    }

    fn unfinished(searched: usize) -> Cut {
        Cut::Unfinished { searched }
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_may_be_empty() {
        for (bytes, expected) in [
            (&b"one\ntwo"[..], packet(0..3, 4)),
            (b"one\r\ntwo", packet(0..3, 5)),
            (b"\n", packet(0..0, 1)),
            (b"\r\n", packet(0..0, 2)),
            (b"a\rb\n", packet(0..3, 4)),
            (b"a\r\r\n", packet(0..2, 4)),
            (b"", unfinished(0)),
            (b"one", unfinished(3)),
            (b"one\r", unfinished(4)),
        ] {
            assert_eq!(Framing::Line.cut(bytes, 0, 100), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_without_its_end() {
        for (bytes, expected) in [
            (&b"1234\n"[..], packet(0..4, 5)),
            (b"1234\r\n", packet(0..4, 6)),
            (b"1234", unfinished(4)),
            (b"1234\r", unfinished(5)),
            (b"12345", Cut::TooLarge),
            (b"12345\n", Cut::TooLarge),
            (b"1234\r\r\n", Cut::TooLarge),
            (b"1234\rx", Cut::TooLarge),
        ] {
            assert_eq!(Framing::Line.cut(bytes, 0, 4), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_was_searched_is_not_looked_at_again() {
        assert_eq!(Framing::Line.cut(b"a\nb\n", 2, 100), packet(0..3, 4));
    }

    #[test]
    fn lengths_are_big_endian_and_do_not_count_themselves() {
        let (one, two, four) = (Width::One, Width::Two, Width::Four);
        for (width, bytes, expected) in [
            (one, &b""[..], unfinished(0)),
            (one, b"\0", packet(1..1, 1)),
            (one, b"\x03ab", unfinished(0)),
            (one, b"\x03abcd", packet(1..4, 4)),
            (two, b"\0", unfinished(0)),
            (two, b"\0\x01ab", packet(2..3, 3)),
            (two, b"\x01\x01", Cut::TooLarge),
            (four, b"\0\0\0", unfinished(0)),
            (four, b"\0\0\0\x02ab", packet(4..6, 6)),
            (four, b"\0\0\x01\x01", Cut::TooLarge),
            (four, b"\xff\xff\xff\xff", Cut::TooLarge),
        ] {
            let cut = Framing::Prefixed(width).cut(bytes, 0, 256);
            assert_eq!(cut, expected, "{width:?} {bytes:?}");
        }
    }

    #[test]
    fn prefixes_say_what_they_can() {
        for (width, longest) in [
            (Width::One, 0xff),
            (Width::Two, 0xffff),
            (Width::Four, 0xffff_ffff),
        ] {
            let framing = Framing::Prefixed(width);
            let prefix = framing.prefix(longest);
            assert_eq!(prefix.as_deref(), Ok(&[0xff; 4][..width as usize]));
            let too_long = framing.prefix(longest + 1);
            assert_eq!(too_long.as_deref(), Err(&Unspeakable { longest }));
        }
        assert_eq!(
            Framing::Prefixed(Width::Two).prefix(258).as_deref(),
            Ok(&b"\x01\x02"[..])
        );
        assert_eq!(Framing::Line.prefix(usize::MAX).as_deref(), Ok(&b""[..]));
    }
}
