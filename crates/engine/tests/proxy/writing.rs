//! Headers that cannot be written, bytes that are none.

use std::net::SocketAddr;

use mantou_engine::proxy::{Addresses, Field, Header, LONGEST, Scan, Transport, Version, scan};

use crate::{REST, tcp, whole};

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
