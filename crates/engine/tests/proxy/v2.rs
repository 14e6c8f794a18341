//! The binary header: addresses, fields, the checksum.

use mantou_engine::proxy::{
    Addresses, ClientTls, Command, Field, Header, Scan, Transport, Version, scan,
};

use crate::{refusal, tcp, v2, whole};

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

/// A header of unknown family with these fields.
fn with_fields(fields: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fields.len()).unwrap().to_be_bytes();
    let mut bytes = v2(&[0x21, 0x00, len[0], len[1]]);
    bytes.extend_from_slice(fields);
    bytes
}
