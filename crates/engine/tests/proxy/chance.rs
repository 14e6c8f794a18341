//! Headers made by chance: written, cut, damaged.

use mantou_engine::proxy::{
    Addresses, ClientTls, Field, Header, LONGEST, Scan, Transport, Version, scan,
};

use crate::{REST, tcp, unknown, whole};

#[test]
fn what_is_written_is_read_however_it_is_cut() {
    let mut random = Random(1);
    for _ in 0..500 {
        let header = random.header();
        let mut bytes = header.to_bytes().unwrap();
        assert_eq!(whole(&bytes), header);
        let (len, signature) = (
            bytes.len(),
            if header.version == Version::V1 { 6 } else { 12 },
        );
        bytes.extend_from_slice(REST);
        for cut in 0..len {
            let signed = cut >= signature;
            assert_eq!(scan(&bytes[..cut]), Ok(Scan::Partial { signed }), "{cut}");
        }
        for cut in len..bytes.len() {
            assert_eq!(
                scan(&bytes[..cut]),
                Ok(Scan::Header(Box::new(header.clone()), len))
            );
        }
    }
}

#[test]
fn whatever_comes_has_one_answer_that_more_bytes_do_not_change() {
    let mut random = Random(2);
    for _ in 0..3_000 {
        let mut bytes = random.header().to_bytes().unwrap();
        for _ in 0..random.below(4) {
            let place = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[place] = random.byte(),
                1 => bytes[place] ^= 1 << random.below(8),
                _ => bytes.truncate(place + 1),
            }
        }
        bytes.extend(random.bytes(20));
        let mut known = None;
        for cut in 0..=bytes.len() {
            let answer = scan(&bytes[..cut]);
            match (&known, &answer) {
                (None, Ok(Scan::Partial { .. })) => {}
                (None, _) => {
                    if let Ok(Scan::Header(header, len)) = &answer {
                        assert!(*len <= cut && *len <= LONGEST);
                        let written = header.to_bytes().unwrap();
                        assert_eq!(whole(&written), **header);
                    }
                    known = Some(answer);
                }
                (Some(known), answer) => assert_eq!(known, answer),
            }
        }
    }
}

/// A linear congruential generator: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.byte()).collect()
    }

    fn header(&mut self) -> Header {
        let version = if self.below(3) == 0 {
            Version::V1
        } else {
            Version::V2
        };
        let mut header = match self.below(4) {
            0 => unknown(),
            1 => tcp(
                version,
                &format!("1.{}.0.{}:{}", self.byte(), self.byte(), self.byte()),
                &format!("{}.1.2.3:{}", self.byte(), self.below(65536)),
            ),
            _ => tcp(
                version,
                &format!("[{:x}::{:x}]:1", self.below(65536), self.below(65536)),
                &format!("[::ffff:1.2.3.{}]:{}", self.byte(), self.below(65536)),
            ),
        };
        header.version = version;
        if version == Version::V1 {
            return header;
        }
        if self.below(4) == 0 {
            header.transport = Transport::Stream;
            let path = |random: &mut Self| {
                let mut path = random.bytes(107);
                path.push(1);
                path
            };
            header.addresses = Addresses::Unix {
                source: path(self),
                destination: path(self),
            };
        }
        let fields = |random: &mut Self, first: u8| {
            let field = |random: &mut Self| Field {
                kind: first + u8::try_from(random.below(8)).unwrap(),
                value: random.bytes(40),
            };
            (0..random.below(4)).map(|_| field(random)).collect()
        };
        header.fields = fields(self, 0xE0);
        header.checksum = self.below(2) == 0;
        if self.below(2) == 0 {
            header.tls = Some(ClientTls {
                client: self.byte(),
                verify: u32::from(self.byte()),
                fields: fields(self, 0x21),
            });
        }
        header
    }
}
