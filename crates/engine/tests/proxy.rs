//! PROXY headers: the specification's own, malformed ones, and whatever else may come.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use mantou_engine::proxy::{
    Addresses, ClientTls, Command, Field, Header, LONGEST, Malformed, Scan, Transport, Version,
    scan,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Behind a header, in the same segment.
const REST: &[u8] = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";

fn v2(bytes: &[u8]) -> Vec<u8> {
    [SIGNATURE, bytes].concat()
}

fn whole(bytes: &[u8]) -> Header {
    match scan(bytes) {
        Ok(Scan::Header(header, len)) if len == bytes.len() => *header,
        other => panic!("{other:?} of {bytes:?}"),
    }
}

fn refusal(bytes: &[u8]) -> &'static str {
    match scan(bytes) {
        Err(Malformed(why)) => why,
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn tcp(version: Version, source: &str, destination: &str) -> Header {
    Header {
        command: Command::Proxy,
        transport: Transport::Stream,
        addresses: Addresses::Ip {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        },
        ..Header::local(version)
    }
}

fn unknown() -> Header {
    Header {
        command: Command::Proxy,
        ..Header::local(Version::V1)
    }
}

#[test]
fn the_lines_of_the_specification() {
    let highest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let v6 = format!("[{highest}]:65535");
    let cases = [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_owned(),
            tcp(
                Version::V1,
                "255.255.255.255:65535",
                "255.255.255.255:65535",
            ),
            56,
        ),
        (
            format!("PROXY TCP6 {highest} {highest} 65535 65535\r\n"),
            tcp(Version::V1, &v6, &v6),
            104,
        ),
        ("PROXY UNKNOWN\r\n".to_owned(), unknown(), 15),
        (
            format!("PROXY UNKNOWN {highest} {highest} 65535 65535\r\n"),
            unknown(),
            107,
        ),
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n".to_owned(),
            tcp(Version::V1, "192.168.0.1:56324", "192.168.0.11:443"),
            47,
        ),
    ];
    for (line, header, len) in cases {
        assert_eq!(line.len(), len);
        assert_eq!(whole(line.as_bytes()), header);
        if header.addresses != Addresses::Unknown {
            assert_eq!(header.to_bytes().unwrap(), line.as_bytes());
        }
    }
    assert_eq!(unknown().to_bytes().unwrap(), b"PROXY UNKNOWN\r\n");
}

#[test]
fn lines_that_are_malformed() {
    for line in [
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 0x1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 ::1 ::1%eth0 1 2\r\n",
        "PROXY TCP6 ::1 [::1] 1 2\r\n",
        "PROXY TCP6 :::1 ::1 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX",
        "PROXY UNKNOWN\n",
        "PROXY TCP4 1.2.3.4 \u{661}.2.3.4 1 2\r\n",
    ] {
        refusal(line.as_bytes());
    }
    refusal(b"PROXY TCP4 1.2.3.4 \xFF 1 2\r\n");
    // One byte longer than the longest line, whether its end has come or not.
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(long.len(), 108);
    assert_eq!(
        refusal(long.as_bytes()),
        "its line is longer than 107 bytes"
    );
    assert_eq!(
        refusal(&long.as_bytes()[..107]),
        "its line is longer than 107 bytes"
    );
    assert_eq!(
        scan(&long.as_bytes()[..106]),
        Ok(Scan::Partial { signed: true })
    );
}

#[test]
fn binary_headers_as_the_specification_lays_them_out() {
    let v4 = v2(&[
        0x21, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB,
    ]);
    let header = tcp(Version::V2, "192.168.0.1:56324", "192.168.0.11:443");
    assert_eq!(whole(&v4), header);
    assert_eq!(header.to_bytes().unwrap(), v4);

    let mut v6 = v2(&[0x21, 0x22, 0, 36]);
    v6.extend_from_slice(&[0; 15]);
    v6.push(1);
    v6.extend_from_slice(&[0xFF; 16]);
    v6.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
    let header = Header {
        transport: Transport::Datagram,
        ..tcp(
            Version::V2,
            "[::1]:0",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        )
    };
    assert_eq!(whole(&v6), header);
    assert_eq!(header.to_bytes().unwrap(), v6);

    let mut unix = v2(&[0x21, 0x31, 0, 216]);
    for path in [&b"/run/client"[..], b"\0abstract"] {
        unix.extend_from_slice(path);
        unix.resize(unix.len() + 108 - path.len(), 0);
    }
    let header = Header {
        command: Command::Proxy,
        transport: Transport::Stream,
        addresses: Addresses::Unix {
            source: b"/run/client".to_vec(),
            destination: b"\0abstract".to_vec(),
        },
        ..Header::local(Version::V2)
    };
    assert_eq!(whole(&unix), header);
    assert_eq!(header.to_bytes().unwrap(), unix);

    let unspecified = v2(&[0x21, 0x00, 0, 0]);
    assert_eq!(whole(&unspecified).addresses, Addresses::Unknown);
}

#[test]
fn a_proxy_that_speaks_for_itself_is_believed_nothing_else() {
    let local = Header::local(Version::V2);
    assert_eq!(local.to_bytes().unwrap(), v2(&[0x20, 0x00, 0, 0]));
    // Even what would be malformed.
    for block in [
        &[0x20, 0x00, 0, 0][..],
        &[0x20, 0x11, 0, 1, 9],
        &[0x20, 0xFF, 0, 2, 1, 1],
        &[
            0x20, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB,
        ],
    ] {
        assert_eq!(whole(&v2(block)), local);
    }
}

/// A header of unknown family with these fields.
fn with_fields(fields: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fields.len()).unwrap().to_be_bytes();
    let mut bytes = v2(&[0x21, 0x00, len[0], len[1]]);
    bytes.extend_from_slice(fields);
    bytes
}

#[test]
fn fields_come_in_order_and_padding_is_none() {
    let bytes = with_fields(&[
        0x01, 0, 2, b'h', b'2', 0x04, 0, 3, 0, 0, 0, 0xEA, 0, 0, 0x05, 0, 1, 9, 0xEA, 0, 1, 7,
    ]);
    let field = |kind, value: &[u8]| Field {
        kind,
        value: value.to_vec(),
    };
    assert_eq!(
        whole(&bytes).fields,
        [
            field(0x01, b"h2"),
            field(0xEA, b""),
            field(0x05, b"\x09"),
            field(0xEA, b"\x07")
        ]
    );
}

#[test]
fn what_is_told_of_tls_has_fields_of_its_own() {
    let bytes = with_fields(&[
        0x20, 0, 15, 0x07, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3',
    ]);
    let tls = ClientTls {
        client: 7,
        verify: 0,
        fields: vec![Field {
            kind: 0x21,
            value: b"TLSv1.3".to_vec(),
        }],
    };
    let header = whole(&bytes);
    assert_eq!(header.tls, Some(tls));
    assert_eq!(header.to_bytes().unwrap(), bytes);
}

#[test]
fn binary_headers_that_are_malformed() {
    for block in [
        // Version and command.
        &[0x11, 0x11, 0, 0][..],
        &[0x31, 0x11, 0, 0],
        &[0x01],
        &[0x22, 0x11, 0, 0],
        &[0x2F],
        // Family and transport.
        &[0x21, 0x01, 0, 0],
        &[0x21, 0x10, 0, 0],
        &[0x21, 0x13, 0, 0],
        &[0x21, 0x41, 0, 0],
        &[0x21, 0xF1, 0, 0],
        // Too short for its addresses.
        &[0x21, 0x11, 0, 0],
        &[0x21, 0x11, 0, 11, 1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0],
        &[0x21, 0x21, 0, 12, 1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0],
        &[0x21, 0x31, 0, 12, 1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0],
        // Longer than is taken.
        &[0x21, 0x11, 0xFF, 0xFF],
        &[0x20, 0x00, 0x3F, 0xF1],
    ] {
        refusal(&v2(block));
    }
    for fields in [
        &[0x01][..],
        &[0x01, 0],
        &[0x01, 0, 1],
        &[0x01, 0xFF, 0xFF, 0],
        &[0x04, 0, 2, 0],
        // The checksum.
        &[0x03, 0, 0],
        &[0x03, 0, 3, 0, 0, 0],
        &[0x03, 0, 5, 0, 0, 0, 0, 0],
        &[0x03, 0, 4, 0, 0, 0, 0],
        // TLS.
        &[0x20, 0, 0],
        &[0x20, 0, 4, 0, 0, 0, 0],
        &[0x20, 0, 6, 1, 0, 0, 0, 0, 0x21],
        &[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 1],
        &[0x20, 0, 5, 1, 0, 0, 0, 0, 0x20, 0, 5, 1, 0, 0, 0, 0],
    ] {
        refusal(&with_fields(fields));
    }
    let mut id = vec![0x05, 0, 129];
    id.resize(3 + 129, b'x');
    assert_eq!(
        refusal(&with_fields(&id)),
        "its unique ID is longer than 128 bytes"
    );
    // What is wrong is said without waiting for the rest, which may never come.
    refusal(&v2(&[0x12]));
    refusal(&v2(&[0x21, 0x11, 0x40, 0]));
}

#[test]
fn the_checksum_is_of_the_whole_header() {
    let mut header = tcp(Version::V2, "127.0.0.1:1", "127.0.0.1:2");
    header.checksum = true;
    header.fields.push(Field {
        kind: 0x02,
        value: b"localhost".to_vec(),
    });
    let bytes = header.to_bytes().unwrap();
    assert_eq!(whole(&bytes), header);
    for place in 16..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            if let Ok(Scan::Header(read, _)) = scan(&changed) {
                // It was taken for another kind of field.
                assert!(!read.checksum, "{place} {bit}");
            }
        }
    }
    // Wherever among the fields it is.
    let len = bytes.len();
    let mut early = bytes[..28].to_vec();
    early.extend_from_slice(&[0x03, 0, 4, 0, 0, 0, 0]);
    early.extend_from_slice(&bytes[28..len - 7]);
    assert_eq!(refusal(&early), "its checksum is wrong");
}

#[test]
fn what_cannot_be_said_is_not_written() {
    let base = |version| tcp(version, "1.2.3.4:5", "6.7.8.9:10");
    let mut mixed = base(Version::V2);
    let destination: SocketAddr = "[::1]:1".parse().unwrap();
    mixed.addresses = Addresses::Ip {
        source: "1.2.3.4:5".parse().unwrap(),
        destination,
    };
    let mut checked = base(Version::V1);
    checked.checksum = true;
    let mut datagram = base(Version::V1);
    datagram.transport = Transport::Datagram;
    let unix = |version, path: usize| Header {
        addresses: Addresses::Unix {
            source: vec![b'x'; path],
            destination: Vec::new(),
        },
        ..base(version)
    };
    let with = |version, kind, len: usize| Header {
        fields: vec![Field {
            kind,
            value: vec![0; len],
        }],
        ..base(version)
    };
    let mut silent = base(Version::V2);
    silent.transport = Transport::Unspecified;
    for header in [
        mixed,
        checked,
        datagram,
        silent,
        unix(Version::V1, 1),
        unix(Version::V2, 109),
        with(Version::V1, 1, 1),
        with(Version::V2, 0x03, 4),
        with(Version::V2, 0x04, 4),
        with(Version::V2, 0x20, 5),
        with(Version::V2, 0x05, 129),
        with(Version::V2, 0xE0, LONGEST),
        with(Version::V2, 0xE0, 65536),
    ] {
        header.to_bytes().unwrap_err();
    }
    let longest = with(Version::V2, 0xE0, LONGEST - 28 - 3);
    assert_eq!(whole(&longest.to_bytes().unwrap()), longest);
}

#[test]
fn other_bytes_are_no_header() {
    for bytes in [
        REST,
        b"\x16\x03\x01\x02\0",
        b"PROXX",
        b"PROXYTCP4",
        b"proxy TCP4",
        b"\r\n\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\n",
        b"\n",
    ] {
        assert_eq!(scan(bytes), Ok(Scan::Absent), "{}", bytes.escape_ascii());
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
