//! PROXY headers.

use mantou_engine::proxy::{LONGEST, Scan, scan};

/// However a header is cut, the answer is the same; what is understood can be written and read.
pub fn headers(data: &[u8]) {
    let whole = scan(data);
    let Ok(Scan::Header(header, len)) = &whole else {
        if let Ok(Scan::Partial { .. }) = whole {
            assert!(data.len() < LONGEST, "it goes on waiting");
        }
        return;
    };
    assert!(*len <= data.len() && *len <= LONGEST);
    assert_eq!(scan(&data[..*len]), whole, "what follows matters");
    let before = scan(&data[..*len - 1]);
    assert!(matches!(before, Ok(Scan::Partial { .. })), "done too early");
    let written = header.to_bytes().expect("what was read can be written");
    match scan(&written) {
        Ok(Scan::Header(again, all)) => {
            assert_eq!((&again, all), (header, written.len()));
        }
        other => panic!("{other:?} of {header:?}"),
    }
}
