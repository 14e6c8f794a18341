//! Packets, cut out of what comes in pieces.

use mantou_engine::{Cut, Framing, Width};

use crate::Script;

/// The packets are those of somebody who has all bytes at once, however they come.
pub fn packets(data: &[u8]) {
    let mut script = Script(data);
    let framing = match script.byte() % 4 {
        0 => Framing::Line,
        1 => Framing::Prefixed(Width::One),
        2 => Framing::Prefixed(Width::Two),
        _ => Framing::Prefixed(Width::Four),
    };
    let (limit, piece) = (usize::from(script.byte()), usize::from(script.byte()) + 1);
    let sent = script.0;
    let (mut arrived, mut begin, mut searched) = (0, 0, 0);
    loop {
        match framing.cut(&sent[begin..arrived], searched, limit) {
            Cut::Packet { body, end } => {
                assert_eq!(
                    next(framing, &sent[begin..], limit),
                    Next::Packet(&sent[begin..][body], end)
                );
                begin += end;
                searched = 0;
            }
            Cut::TooLarge => {
                assert_eq!(next(framing, &sent[begin..], limit), Next::TooLarge);
                return;
            }
            Cut::Unfinished { searched: so_far } => {
                assert!(so_far <= arrived - begin);
                searched = so_far;
                if arrived == sent.len() {
                    assert_eq!(next(framing, &sent[begin..], limit), Next::Nothing);
                    return;
                }
                arrived = sent.len().min(arrived + piece);
            }
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Next<'d> {
    Packet(&'d [u8], usize),
    TooLarge,
    Nothing,
}

/// The first packet, as one would say it.
fn next(framing: Framing, sent: &[u8], limit: usize) -> Next<'_> {
    let (body, end) = match framing {
        Framing::Prefixed(width) => {
            let width = width as usize;
            if sent.len() < width {
                return Next::Nothing;
            }
            let length = sent[..width]
                .iter()
                .fold(0, |sum, it| sum * 256 + usize::from(*it));
            (width..width + length, width + length)
        }
        _ => match sent.iter().position(|byte| *byte == b'\n') {
            Some(end) => (
                0..end - usize::from(end > 0 && sent[end - 1] == b'\r'),
                end + 1,
            ),
            None => (
                0..sent.len() - usize::from(sent.last() == Some(&b'\r')),
                sent.len() + 1,
            ),
        },
    };
    if body.len() > limit {
        Next::TooLarge
    } else if end > sent.len() {
        Next::Nothing
    } else {
        Next::Packet(&sent[body], end)
    }
}
