//! The line.

use mantou_engine::proxy::{Addresses, Scan, Version, scan};

use crate::{refusal, tcp, unknown, whole};

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
