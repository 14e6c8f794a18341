//! Bytes that were accepted and are not in the kernel yet.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Small pieces are gathered into blocks of this size instead of queued one by one.
const BLOCK: usize = 64 * 1024;

/// Room in a new block, so that a few more small pieces find some.
const FIRST_ROOM: usize = 512;

/// How many blocks one `sendmsg` is offered.
const VECTORS: usize = 16;

/// A queue of bytes, kept in the order in which they were accepted.
#[derive(Default)]
pub struct SendQueue {
    blocks: VecDeque<Vec<u8>>,
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
        self.len += data.len();
        if let Some(last) = self.blocks.back_mut() {
            let room = BLOCK.saturating_sub(last.len()).min(data.len());
            last.extend_from_slice(&data[..room]);
            data = &data[room..];
        }
        if !data.is_empty() {
            let mut block = Vec::with_capacity(data.len().max(FIRST_ROOM));
            block.extend_from_slice(data);
            self.blocks.push_back(block);
        }
    }

    /// Lets `fill` write behind the last byte, without a copy.
    pub fn append<R>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut block = match self.blocks.back() {
            Some(last) if last.len() < BLOCK => self.blocks.pop_back().unwrap_or_default(),
            _ => Vec::new(),
        };
        let before = block.len();
        let result = fill(&mut block);
        self.len += block.len() - before;
        if !block.is_empty() {
            self.blocks.push_back(block);
        }
        result
    }

    pub fn consume(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(first) = self.blocks.front() {
            let left = first.len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.sent = 0;
            self.blocks.pop_front();
        }
        // An idle socket keeps no memory for its next burst.
        self.blocks = VecDeque::new();
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The head of the queue as slices, ready for one `sendmsg`.
    pub fn slices(&self) -> ([IoSlice<'_>; VECTORS], usize) {
        let mut slices = [IoSlice::new(&[]); VECTORS];
        let mut skip = self.sent;
        let mut n = 0;
        for (slot, block) in slices.iter_mut().zip(&self.blocks) {
            *slot = IoSlice::new(&block[skip..]);
            skip = 0;
            n += 1;
        }
        (slices, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(queue: &SendQueue) -> Vec<u8> {
        let mut skip = queue.sent;
        let mut all = Vec::new();
        for block in &queue.blocks {
            all.extend_from_slice(&block[skip..]);
            skip = 0;
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
