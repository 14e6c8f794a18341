//! Bytes that were accepted and are not in the kernel yet.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::file::{FilePart, FileProgress};

/// Small pieces are gathered into blocks of this size instead of queued one by one.
const BLOCK: usize = 64 * 1024;

/// Room in the first block at least: small pieces seldom come alone.
const FIRST_ROOM: usize = 512;

/// How many blocks one `sendmsg` is offered.
pub const VECTORS: usize = 16;

/// From this size on, holding the owner of bytes is cheaper than copying them.
const WORTH_KEEPING: usize = 16 * 1024;

/// Memory that does not change any more, held until it is sent.
pub type Owner = Box<dyn AsRef<[u8]> + Send + Sync>;

/// Whoever has the bytes that are to be sent.
pub trait Keep {
    /// The same bytes, to be held for as long as it takes; `None` if they may change meanwhile.
    fn keep(&self) -> Option<Owner>;
}

/// Bytes to be sent, which the kernel may not take at once.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    source: Option<&'a dyn Keep>,
}

impl<'a> Piece<'a> {
    /// What is not sent at once may be kept instead of copied.
    pub fn of(source: &'a dyn Keep, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            source: Some(source),
        }
    }

    /// What is not sent at once has to be copied.
    pub fn lent(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            source: None,
        }
    }
}

enum Block {
    Gathered(Vec<u8>),
    /// Few queues have one, and all have room for a block: so that stays as small as a `Vec`.
    Held(Box<Held>),
}

enum Held {
    /// All but the first `skipped` bytes of somebody's memory.
    Memory {
        owner: Owner,
        skipped: usize,
    },
    File(FilePart),
}

impl Block {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Held(held) => match &**held {
                Held::Memory { owner, skipped } => &(**owner).as_ref()[*skipped..],
                Held::File(_) => &[],
            },
        }
    }

    fn len(&self) -> usize {
        self.file().map_or(self.bytes().len(), FilePart::count)
    }

    #[inline]
    fn file(&self) -> Option<&FilePart> {
        match self {
            Self::Held(held) => match &**held {
                Held::File(part) => Some(part),
                Held::Memory { .. } => None,
            },
            Self::Gathered(_) => None,
        }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::Gathered(Vec::new())
    }
}

/// A queue of bytes, kept in the order in which they were accepted.
#[derive(Default)]
pub struct SendQueue {
    /// Few queues ever have a second block. It is empty only if the queue is.
    first: Block,
    others: VecDeque<Block>,
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

    pub fn push(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        let mut rest = data;
        if let Some(last) = self.gathering() {
            if last.is_empty() {
                last.reserve_exact(data.len().max(FIRST_ROOM));
                last.extend_from_slice(data);
                return;
            }
            let room = BLOCK.saturating_sub(last.len()).min(data.len());
            last.extend_from_slice(&data[..room]);
            rest = &data[room..];
        }
        if !rest.is_empty() {
            self.others.push_back(Block::Gathered(rest.to_vec()));
        }
    }

    /// Queues all but the first `skipped` bytes, in the owner's memory if that is worth it.
    pub fn push_rest(&mut self, piece: &Piece<'_>, skipped: usize) {
        let rest = &piece.bytes[skipped..];
        let owner = match piece.source {
            Some(source) if rest.len() >= WORTH_KEEPING => source.keep(),
            _ => None,
        };
        let Some(owner) = owner else {
            self.push(rest);
            return;
        };
        self.push_block(Block::Held(Box::new(Held::Memory { owner, skipped })));
    }

    /// Queues a part of a file, which is read when its turn has come.
    pub fn push_file(&mut self, part: FilePart) {
        if part.count() > 0 {
            self.push_block(Block::Held(Box::new(Held::File(part))));
        }
    }

    /// Takes back what is not sent of a file.
    pub fn withdraw_file(&mut self, progress: &Arc<FileProgress>) {
        let is_it = |block: &Block| block.file().is_some_and(|part| part.is_of(progress));
        if is_it(&self.first) {
            self.consume(self.first.len() - self.sent);
        } else if let Some(at) = self.others.iter().position(is_it)
            && let Some(block) = self.others.remove(at)
        {
            self.len -= block.len();
        }
    }

    fn push_block(&mut self, block: Block) {
        let len = block.len();
        if self.is_empty() {
            self.first = block;
        } else {
            self.others.push_back(block);
        }
        self.len += len;
    }

    /// Lets `fill` write behind the last byte, without a copy.
    pub fn append<R>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if let Some(last) = self.gathering()
            && last.len() < BLOCK
        {
            let before = last.len();
            let result = fill(last);
            let added = last.len() - before;
            self.len += added;
            return result;
        }
        let mut block = Vec::new();
        let result = fill(&mut block);
        if !block.is_empty() {
            self.len += block.len();
            self.others.push_back(Block::Gathered(block));
        }
        result
    }

    /// The last block, if more can be written behind it.
    fn gathering(&mut self) -> Option<&mut Vec<u8>> {
        match self.others.back_mut().unwrap_or(&mut self.first) {
            Block::Gathered(bytes) => Some(bytes),
            Block::Held(_) => None,
        }
    }

    pub fn consume(&mut self, n: usize) {
        self.len -= n;
        self.sent += n;
        if self.is_empty() {
            // An idle socket keeps no memory for its next burst.
            self.clear();
            return;
        }
        loop {
            let len = self.first.len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            self.first = self.others.pop_front().unwrap_or_default();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The file that is at the head of the queue, and how many bytes of its part are gone already.
    #[inline]
    pub fn file(&self) -> Option<(&FilePart, usize)> {
        self.first.file().map(|part| (part, self.sent))
    }

    /// The head of the queue as slices, ready for one `sendmsg`; up to the first file.
    pub fn slices(&self) -> ([IoSlice<'_>; VECTORS], usize) {
        let mut slices = [IoSlice::new(&[]); VECTORS];
        if self.is_empty() {
            return (slices, 0);
        }
        slices[0] = IoSlice::new(&self.first.bytes()[self.sent..]);
        let mut n = 1;
        if self.others.is_empty() {
            return (slices, n);
        }
        let others = self
            .others
            .iter()
            .take_while(|block| block.file().is_none());
        for (slot, block) in slices[1..].iter_mut().zip(others) {
            *slot = IoSlice::new(block.bytes());
            n += 1;
        }
        (slices, n)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn content(queue: &SendQueue) -> Vec<u8> {
        let mut all = queue.first.bytes()[queue.sent..].to_vec();
        for block in &queue.others {
            all.extend_from_slice(block.bytes());
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

    /// Counts who holds the bytes, as Python's objects do.
    struct Counted(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Keep for Arc<Vec<u8>> {
        fn keep(&self) -> Option<Owner> {
            Some(Box::new(Counted(self.clone())))
        }
    }

    struct Changing;

    impl Keep for Changing {
        fn keep(&self) -> Option<Owner> {
            None
        }
    }

    #[test]
    fn large_rests_are_kept_and_small_ones_copied() {
        let large = Arc::new(vec![b'l'; WORTH_KEEPING + 10]);
        let mut queue = SendQueue::default();
        queue.push_rest(&Piece::of(&large, &large), 11);
        assert_eq!(Arc::strong_count(&large), 1);
        queue.push_rest(&Piece::of(&large, &large), 10);
        assert_eq!(Arc::strong_count(&large), 2);
        queue.push_rest(&Piece::of(&Changing, &large), 0);
        queue.push_rest(&Piece::lent(&large), 0);
        assert_eq!(Arc::strong_count(&large), 2);
        assert_eq!(content(&queue), vec![b'l'; 4 * large.len() - 21]);
        queue.clear();
        assert_eq!(Arc::strong_count(&large), 1);
    }

    #[test]
    fn keeps_order_around_kept_blocks_and_lets_go_of_those_that_are_sent() {
        let large = Arc::new((0..50_000u32).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
        let mut queue = SendQueue::default();
        let mut expected = large[5..].to_vec();
        queue.push_rest(&Piece::of(&large, &large), 5);
        queue.push(b"copied");
        queue.push(b" behind it");
        queue.append(|bytes| bytes.extend_from_slice(b", appended"));
        expected.extend_from_slice(b"copied behind it, appended");
        queue.push_rest(&Piece::of(&large, &large), 0);
        queue.append(|bytes| bytes.extend_from_slice(b"last"));
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"last");
        assert_eq!(queue.len(), expected.len());
        assert_eq!(queue.slices().1, 4);
        let mut taken = 0;
        for (n, holders) in [(49_990, 3), (5, 2), (20, 2), (50_005, 2), (2, 1)] {
            queue.consume(n);
            taken += n;
            assert_eq!(content(&queue), expected[taken..]);
            assert_eq!(Arc::strong_count(&large), holders);
        }
    }
}
