//! Deadlines, in milliseconds since the engine was made.
//!
//! A member has at most one live entry: the earliest moment at which it wants to be looked at.
//! Pushing a deadline back is therefore one store in the member itself; when the entry comes up
//! too early, it is simply entered again. That makes re-arming an idle timer on every message free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::token::Token;

/// A moment: milliseconds since the engine's start.
pub type Millis = u64;

/// A duration in whole milliseconds, rounded up: at least one unless it is zero.
pub fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(Millis::MAX / 4)
}

pub struct Timers {
    start: Instant,
    now: Millis,
    heap: BinaryHeap<Reverse<(Millis, Token)>>,
}

impl Timers {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            now: 0,
            heap: BinaryHeap::new(),
        }
    }

    /// The moment of the last `refresh`.
    pub fn now(&self) -> Millis {
        self.now
    }

    pub fn refresh(&mut self) -> Millis {
        self.now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now
    }

    pub fn push(&mut self, at: Millis, token: Token) {
        self.heap.push(Reverse((at, token)));
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn retain(&mut self, keep: impl Fn(Millis, Token) -> bool) {
        self.heap.retain(|Reverse((at, token))| keep(*at, *token));
    }

    /// The next entry that is due. A millisecond must have passed whole: deadlines never come early.
    pub fn pop_due(&mut self) -> Option<(Millis, Token)> {
        let Reverse((at, _)) = *self.heap.peek()?;
        if at >= self.now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When the next entry is due.
    pub fn next_due(&self) -> Option<Millis> {
        self.heap
            .peek()
            .map(|Reverse((at, _))| at.saturating_add(1))
    }

    /// How long it is from the real present until that moment.
    pub fn until(&self, moment: Millis) -> Duration {
        Duration::from_millis(moment).saturating_sub(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_in_order_and_never_early() {
        let mut timers = Timers::new();
        timers.push(20, Token::NONE);
        timers.push(10, Token::NONE);
        timers.now = 10;
        assert_eq!(timers.pop_due(), None);
        timers.now = 11;
        assert_eq!(timers.pop_due(), Some((10, Token::NONE)));
        assert_eq!(timers.pop_due(), None);
        assert_eq!(timers.next_due(), Some(21));
        assert!(timers.until(21) <= Duration::from_millis(21));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_entered_comes_up_once_when_it_is_due(
            steps in vec((0u8..4, 0u64..200), 0..200),
        ) {
            let mut timers = Timers::new();
            let mut model: Vec<(Millis, Token)> = Vec::new();
            for (number, (step, value)) in (1u32..).zip(steps) {
                let token = Token { index: number, generation: 1 };
                match step {
                    0 | 1 => {
                        let at = timers.now + value;
                        timers.push(at, token);
                        model.push((at, token));
                    }
                    2 => {
                        timers.now += value;
                        model.sort_unstable();
                        let due = model.iter().take_while(|(at, _)| *at < timers.now).count();
                        let came: Vec<_> = std::iter::from_fn(|| timers.pop_due()).collect();
                        prop_assert_eq!(came, model.drain(..due).collect::<Vec<_>>());
                    }
                    _ => {
                        timers.retain(|at, _| at % 3 != value % 3);
                        model.retain(|(at, _)| at % 3 != value % 3);
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                let next = model.iter().map(|(at, _)| at + 1).min();
                prop_assert_eq!(timers.next_due(), next);
            }
        }
    }
}
