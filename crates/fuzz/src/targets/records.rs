//! Where TLS records end in what comes in pieces.

use mantou_engine::tls::Framing;

use crate::Script;

/// Nothing is passed over twice, and the same records are found however they are cut.
pub fn records(data: &[u8]) {
    let mut script = Script(data);
    let (piece, limit) = (usize::from(script.byte()) + 1, script.number());
    let wire = script.0;
    let whole = count(wire, wire.len().max(1), limit);
    let pieces = count(wire, piece, limit);
    if let (Some(whole), Some(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
}

/// The records in it, if all of it is some.
fn count(wire: &[u8], piece: usize, limit: usize) -> Option<usize> {
    let mut framing = Framing::default();
    let mut records = 0;
    for mut part in wire.chunks(piece) {
        while !part.is_empty() {
            let passed = framing.advance(part, limit);
            assert!(
                passed.len > 0 && passed.len <= part.len(),
                "stuck, or beyond"
            );
            part = &part[passed.len..];
            records += passed.records;
        }
    }
    is_tls(wire).then_some(records)
}

fn is_tls(mut wire: &[u8]) -> bool {
    while let [kind, 3, _, high, low, rest @ ..] = wire {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if !(20..=24).contains(kind) || length > 16_384 || length > rest.len() {
            return false;
        }
        wire = &rest[length..];
    }
    wire.is_empty()
}
