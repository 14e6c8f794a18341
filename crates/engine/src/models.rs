//! The pure parts beside models of a few lines, under operations by chance.

use std::collections::HashMap;
use std::iter;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::buffer::{Keep, Owner, Piece, SendQueue};
use crate::packet::{Cut, Framing, Width};
use crate::slots::Slots;
use crate::state::{Input, State};
use crate::token::Token;

// The state table, in the words of ARCHITECTURE.md.

#[derive(Clone, Copy, PartialEq, Debug)]
struct Table {
    half_open: bool,
    life: &'static str,
    read: &'static str,
    write: &'static str,
}

impl Table {
    fn apply(&mut self, input: Input) {
        let finishing = |write| if write == "open" { "finishing" } else { write };
        let discarding = |read| if read == "ended" { read } else { "discarding" };
        match input {
            Input::PeerFin => self.read = "ended",
            Input::EndHandled if self.half_open => {}
            Input::EndHandled | Input::End | Input::Shutdown => self.write = finishing(self.write),
            Input::StopReading => self.read = discarding(self.read),
            Input::Pipe if self.read == "open" => self.read = "piped",
            Input::Leave => {
                self.read = discarding(self.read);
                self.write = finishing(self.write);
            }
            Input::Close if self.life == "open" => {
                self.apply(Input::Leave);
                self.life = if self.write == "ended" {
                    "lingering"
                } else {
                    "closing"
                };
            }
            Input::Pipe | Input::Close => {}
            Input::FinSent => {
                self.write = "ended";
                if self.life == "closing" {
                    self.life = "lingering";
                }
            }
            Input::Gone => (self.life, self.read, self.write) = ("closed", "ended", "ended"),
        }
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::PeerFin),
        Just(Input::EndHandled),
        Just(Input::End),
        Just(Input::Shutdown),
        Just(Input::StopReading),
        Just(Input::Pipe),
        Just(Input::Leave),
        Just(Input::Close),
        Just(Input::FinSent),
        Just(Input::Gone),
    ]
}

// Whose bytes may be kept, or not.

struct Memory(Vec<u8>, bool);

impl Keep for Memory {
    fn keep(&self) -> Option<Owner> {
        self.1.then(|| Box::new(self.0.clone()) as Owner)
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Push(usize),
    PushRest(usize, usize, bool),
    Append(usize),
    Consume(usize),
}

fn operations() -> impl Strategy<Value = Operation> {
    let sizes = || {
        prop_oneof![
            0usize..40,
            0usize..20_000,
            Just(65_536usize),
            0usize..90_000
        ]
    };
    prop_oneof![
        sizes().prop_map(Operation::Push),
        (sizes(), 0usize..200, any::<bool>())
            .prop_map(|(size, skipped, kept)| Operation::PushRest(size, skipped, kept)),
        sizes().prop_map(Operation::Append),
        sizes().prop_map(Operation::Consume),
    ]
}

/// Bytes that show where they belong.
fn pattern(start: usize, len: usize) -> Vec<u8> {
    let round: Vec<u8> = (0..251).collect();
    round.repeat(len / 251 + 2)[start % 251..][..len].to_vec()
}

#[derive(PartialEq, Debug)]
struct TooLarge;

/// The first packet and where it ends, as one would say it.
fn cut(framing: Framing, sent: &[u8], limit: usize) -> Option<Result<(Vec<u8>, usize), TooLarge>> {
    let (body, end) = if let Framing::Prefixed(width) = framing {
        let width = width as usize;
        let prefix = sent.get(..width)?;
        let length = prefix
            .iter()
            .fold(0, |sum, it| sum * 256 + usize::from(*it));
        (width..width + length, width + length)
    } else {
        let line = sent
            .iter()
            .position(|it| *it == b'\n')
            .unwrap_or(sent.len());
        let body = line - usize::from(sent[..line].ends_with(b"\r"));
        (0..body, line + 1)
    };
    if body.len() > limit {
        return Some(Err(TooLarge));
    }
    (end <= sent.len()).then(|| Ok((sent[body].to_vec(), end)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_that_of_the_table(half_open: bool, inputs in vec(inputs(), 0..40)) {
        let mut state = State::new(half_open);
        let mut table = Table { half_open, life: "open", read: "open", write: "open" };
        for input in inputs {
            state.apply(input);
            table.apply(input);
            let Table { life, read, write, .. } = table;
            prop_assert_eq!(state.is_open(), life == "open");
            prop_assert_eq!(state.is_lingering(), life == "lingering");
            prop_assert_eq!(state.is_closed(), life == "closed");
            prop_assert_eq!(state.delivers(), life == "open" && read == "open");
            prop_assert_eq!(state.feeds_pipe(), read == "piped");
            prop_assert_eq!(state.read_ended(), read == "ended");
            prop_assert_eq!(state.accepts_writes(), life == "open" && write == "open");
            prop_assert_eq!(state.owes_fin(), write == "finishing");
            prop_assert_eq!(state.fin_sent(), write == "ended");
            prop_assert_eq!(state.is_over(), read == "ended" && write == "ended");
        }
    }

    #[test]
    fn a_token_finds_its_value_as_long_as_that_is_there(steps in vec((0u8..3, any::<usize>()), 0..900)) {
        let mut slots = Slots::default();
        let mut model: HashMap<Token, usize> = HashMap::new();
        let mut tokens: Vec<Token> = vec![Token::NONE];
        for (step, number) in steps {
            let token = tokens[number % tokens.len()];
            match step {
                0 => {
                    let new = slots.insert(number);
                    prop_assert!(!tokens.contains(&new), "a token that was given before");
                    model.insert(new, number);
                    tokens.push(new);
                }
                1 => prop_assert_eq!(slots.remove(token), model.remove(&token)),
                _ => prop_assert_eq!(slots.get(token), model.get(&token)),
            }
            prop_assert_eq!(slots.len(), model.len());
        }
        let mut live = slots.tokens();
        live.sort_unstable();
        let mut known: Vec<Token> = model.into_keys().collect();
        known.sort_unstable();
        prop_assert_eq!(live, known);
    }

    #[test]
    fn a_queue_gives_what_it_took_in_order(operations in vec(operations(), 0..20)) {
        let mut queue = SendQueue::default();
        let (mut taken, mut given) = (0, 0);
        for operation in operations {
            match operation {
                Operation::Push(size) => {
                    queue.push(&pattern(taken, size));
                    taken += size;
                }
                Operation::PushRest(size, skipped, kept) => {
                    let memory = Memory([vec![0; skipped], pattern(taken, size)].concat(), kept);
                    queue.push_rest(&Piece::of(&memory, &memory.0), skipped);
                    taken += size;
                }
                Operation::Append(size) => {
                    queue.append(|block| block.extend(pattern(taken, size)));
                    taken += size;
                }
                Operation::Consume(most) => {
                    let (slices, n) = queue.slices();
                    let offered: Vec<u8> = slices[..n].iter().flat_map(|it| it.to_vec()).collect();
                    prop_assert_eq!(&offered, &pattern(given, offered.len()));
                    prop_assert!(queue.is_empty() || !offered.is_empty());
                    let size = most.min(offered.len());
                    queue.consume(size);
                    given += size;
                }
            }
            prop_assert_eq!(queue.len(), taken - given);
        }
    }

    #[test]
    fn packets_are_the_same_in_whatever_pieces_they_come(
        framing in prop_oneof![
            Just(Framing::Line),
            Just(Framing::Prefixed(Width::One)),
            Just(Framing::Prefixed(Width::Two)),
        ],
        limit in 0usize..12,
        sent in vec(prop_oneof![0u8..4, Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
        pieces in vec(1usize..9, 1..9),
    ) {
        let mut ends = pieces.iter().cycle().scan(0, |at, piece| {
            *at = sent.len().min(*at + piece);
            Some(*at)
        });
        let arrivals = iter::from_fn(|| ends.next()).take(sent.len() + 1);
        let (mut begin, mut searched) = (0, 0);
        'arrivals: for arrived in arrivals {
            loop {
                match framing.cut(&sent[begin..arrived], searched, limit) {
                    Cut::Unfinished { searched: so_far } => {
                        searched = so_far;
                        prop_assert!(arrived < sent.len() || cut(framing, &sent[begin..], limit).is_none());
                        continue 'arrivals;
                    }
                    Cut::TooLarge => {
                        prop_assert_eq!(cut(framing, &sent[begin..], limit), Some(Err(TooLarge)));
                        return Ok(());
                    }
                    Cut::Packet { body, end } => {
                        let packet = (sent[begin..][body].to_vec(), end);
                        prop_assert_eq!(cut(framing, &sent[begin..], limit), Some(Ok(packet)));
                        begin += end;
                        searched = 0;
                    }
                }
            }
        }
    }
}
