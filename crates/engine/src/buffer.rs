//! Bytes that were accepted and are not in the kernel yet.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Small pieces are gathered into blocks of this size instead of queued one by one.
const BLOCK: usize = 64 * 1024;

/// Room in the first block at least: small pieces seldom come alone.
const FIRST_ROOM: usize = 512;

/// How many blocks one `sendmsg` is offered.
pub const VECTORS: usize = 16;

/// A queue of bytes, kept in the order in which they were accepted.
#[derive(Default)]
pub struct SendQueue {
    /// Few queues ever have a second block.
    first: Vec<u8>,
    others: VecDeque<Vec<u8>>,
    /// Bytes of the first block that are gone already.
    sent: usize,
    len: usize,
}

impl SendQueue {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, mut data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        let last = self.others.back_mut().unwrap_or(&mut self.first);
        if last.is_empty() {
            last.reserve_exact(data.len().max(FIRST_ROOM));
            last.extend_from_slice(data);
            return;
        }
        let room = BLOCK.saturating_sub(last.len()).min(data.len());
        last.extend_from_slice(&data[..room]);
        data = &data[room..];
        if !data.is_empty() {
            self.others.push_back(data.to_vec());
        }
    }

    /// Lets `fill` write behind the last byte, without a copy.
    pub fn append<R>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let last = self.others.back_mut().unwrap_or(&mut self.first);
        if last.len() < BLOCK {
            let before = last.len();
            let result = fill(last);
            self.len += last.len() - before;
            return result;
        }
        let mut block = Vec::new();
        let result = fill(&mut block);
        if !block.is_empty() {
            self.len += block.len();
            self.others.push_back(block);
        }
        result
    }

    pub fn consume(&mut self, n: usize) {
        self.len -= n;
        self.sent += n;
        if self.is_empty() {
            // An idle socket keeps no memory for its next burst.
            self.clear();
            return;
        }
        while self.sent >= self.first.len() {
            self.sent -= self.first.len();
            self.first = self.others.pop_front().unwrap_or_default();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The head of the queue as slices, ready for one `sendmsg`.
    pub fn slices(&self) -> ([IoSlice<'_>; VECTORS], usize) {
        let mut slices = [IoSlice::new(&[]); VECTORS];
        if self.is_empty() {
            return (slices, 0);
        }
        slices[0] = IoSlice::new(&self.first[self.sent..]);
        let mut n = 1;
        for (slot, block) in slices[1..].iter_mut().zip(&self.others) {
            *slot = IoSlice::new(block);
            n += 1;
        }
        (slices, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(queue: &SendQueue) -> Vec<u8> {
        let mut all = queue.first[queue.sent..].to_vec();
        for block in &queue.others {
            all.extend_from_slice(block);
        }
        all
    }

    #[test]
    fn keeps_order_across_blocks_and_partial_sends() {
        let mut queue = SendQueue::default();
        let data: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        for piece in data.chunks(7_001) {
            queue.push(piece);
        }
        assert_eq!(queue.len(), data.len());
        let mut taken = 0;
        for n in [1, 65_535, 1, 70_000, 3] {
            queue.consume(n);
            taken += n;
            assert_eq!(queue.len(), data.len() - taken);
            assert_eq!(content(&queue), data[taken..]);
        }
        queue.consume(queue.len());
        assert!(queue.is_empty());
        assert_eq!(queue.slices().1, 0);
    }

    #[test]
    fn slices_begin_where_sending_stopped() {
        let mut queue = SendQueue::default();
        queue.push(b"hello");
        queue.consume(2);
        let (slices, n) = queue.slices();
        assert_eq!(n, 1);
        assert_eq!(&*slices[0], b"llo");
    }
}
