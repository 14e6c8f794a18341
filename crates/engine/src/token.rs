//! Names for the engine's members that go stale instead of going wrong.

/// A slot and the generation in which it was taken. Once the member is gone, the token finds
/// nothing, even when slot and descriptor number have been given to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    /// Finds nothing, ever: generations of real tokens start at 1.
    pub const NONE: Token = Token {
        index: 0,
        generation: 0,
    };

    /// Where the owner may keep what belongs to this member; unique among live members.
    pub fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) fn key(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn from_key(key: u64) -> Self {
        Token {
            index: key as u32,
            generation: (key >> 32) as u32,
        }
    }
}
