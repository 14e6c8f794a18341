//! Bytes that were received and that nobody has asked for yet, and what readers ask for.

use memchr::memmem;

/// So much is kept of what nobody has asked for; then reading pauses.
pub const LIMIT: usize = 64 * 1024;
/// A smaller memory is kept when it is empty.
const KEPT: usize = 4 * 1024;

/// What a reader asks for.
#[derive(Clone)]
pub enum Wish {
    /// What there is, up to so much.
    Some(usize),
    /// The same, for the reader's own memory, which has room for so much.
    Fill(usize),
    Exactly(usize),
    Until(Until),
    /// Everything, until the peer's FIN.
    All,
}

/// What comes before a delimiter, or with it, and is at most so long.
#[derive(Clone)]
pub struct Until {
    pub delimiter: Box<[u8]>,
    /// Others that will do: whichever ends first.
    pub others: Vec<Box<[u8]>>,
    pub most: usize,
    pub form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Without the delimiter.
    Bare,
    /// With it.
    Whole,
    /// A line of text: without `\n` or `\r\n`, and the last needs neither.
    Line,
}

/// The answer to a wish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    NotYet,
    /// So many bytes are the reader's, and so many are done with.
    Take {
        given: usize,
        gone: usize,
    },
    /// There is no delimiter where one had to be.
    TooLong,
}

impl Wish {
    /// How many bytes may be there before its reader is asked again.
    pub fn most(&self) -> usize {
        match self {
            Self::Some(_) | Self::Fill(_) => LIMIT,
            Self::Exactly(count) => LIMIT.max(*count),
            Self::Until(until) => LIMIT.max(until.bound()),
            Self::All => usize::MAX,
        }
    }
}

impl Until {
    /// So many bytes hold a delimiter, or never will.
    fn bound(&self) -> usize {
        let carriage_return = usize::from(self.form == Form::Line);
        let around = self.longest() + carriage_return;
        self.most.saturating_add(around)
    }

    fn longest(&self) -> usize {
        let others = self.others.iter().map(|other| other.len());
        others.fold(self.delimiter.len(), usize::max)
    }

    /// Where the delimiter that ends first begins and ends.
    fn find(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let place = |delimiter: &[u8]| {
            let at = memmem::find(bytes, delimiter)?;
            Some((at, at + delimiter.len()))
        };
        let first = place(&self.delimiter);
        let others = self.others.iter().filter_map(|other| place(other));
        first.into_iter().chain(others).min_by_key(|(_, end)| *end)
    }
}

#[derive(Default)]
pub struct Backlog {
    memory: Vec<u8>,
    start: usize,
    /// So many of them hold no delimiter that its reader looks for.
    searched: usize,
}

impl Backlog {
    pub fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.len() {
            self.memory.drain(..self.start);
            self.start = 0;
        }
        self.memory.extend_from_slice(bytes);
    }

    /// Takes back what was not wanted after all.
    pub fn push_front(&mut self, bytes: &[u8]) {
        self.searched = 0;
        self.memory.splice(..self.start, bytes.iter().copied());
        self.start = 0;
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        self.searched = 0;
        if self.is_empty() {
            self.start = 0;
            if self.memory.capacity() > KEPT {
                self.memory = Vec::new();
            } else {
                self.memory.clear();
            }
        }
    }

    pub fn take(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(self);
        all.memory.drain(..all.start);
        all.memory
    }

    /// A new reader looks from the beginning.
    pub fn search_anew(&mut self) {
        self.searched = 0;
    }

    pub fn answer(&mut self, wish: &Wish) -> Answer {
        let len = self.len();
        let exactly = |count| Answer::Take {
            given: count,
            gone: count,
        };
        match wish {
            Wish::Some(most) | Wish::Fill(most) if len > 0 => exactly(len.min(*most)),
            Wish::Exactly(count) if len >= *count => exactly(*count),
            Wish::Until(until) => self.find(until),
            _ => Answer::NotYet,
        }
    }

    /// No byte is looked at twice, however many pieces it all comes in.
    fn find(&mut self, until: &Until) -> Answer {
        let bytes = &self.memory[self.start..];
        let known = self
            .searched
            .saturating_sub(until.longest().saturating_sub(1));
        let Some((at, end)) = until.find(&bytes[known..]) else {
            self.searched = bytes.len();
            return if bytes.len() >= until.bound() {
                Answer::TooLong
            } else {
                Answer::NotYet
            };
        };
        let (at, gone) = (at + known, end + known);
        let given = match until.form {
            Form::Bare => at,
            Form::Whole => gone,
            Form::Line => at - usize::from(bytes[..at].ends_with(b"\r")),
        };
        if given.min(at) > until.most {
            return Answer::TooLong;
        }
        Answer::Take { given, gone }
    }
}
