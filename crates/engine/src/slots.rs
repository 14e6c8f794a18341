//! A slab whose keys are generation-tagged tokens.

use crate::sys::prefetch;
use crate::token::Token;

pub struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    live: usize,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// One below the top: a key of all ones belongs to the selector.
const LAST_GENERATION: u32 = u32::MAX - 1;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, value: T) -> Token {
        self.live += 1;
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Token {
                index,
                generation: entry.generation,
            };
        }
        // Every member holds a descriptor, and those are counted in an i32.
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            generation: 1,
            value: Some(value),
        });
        Token {
            index,
            generation: 1,
        }
    }

    pub fn get(&self, token: Token) -> Option<&T> {
        let entry = self.entries.get(token.index())?;
        if entry.generation == token.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let entry = self.entries.get_mut(token.index())?;
        if entry.generation == token.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    #[inline]
    pub fn prefetch(&self, token: Token) {
        if let Some(entry) = self.entries.get(token.index()) {
            prefetch(entry);
        }
    }

    /// Puts another value, or none yet, in the place of a live one.
    pub fn replace(&mut self, token: Token, value: Option<T>) -> Option<T> {
        let entry = self.entries.get_mut(token.index())?;
        if entry.generation != token.generation {
            return None;
        }
        std::mem::replace(&mut entry.value, value)
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        let entry = self.entries.get_mut(token.index())?;
        if entry.generation != token.generation {
            return None;
        }
        let value = entry.value.take();
        entry.generation = if entry.generation >= LAST_GENERATION {
            1
        } else {
            entry.generation + 1
        };
        self.free.push(token.index);
        self.live -= 1;
        value
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn tokens(&self) -> Vec<Token> {
        let live = self.entries.iter().zip(0u32..);
        live.filter(|(entry, _)| entry.value.is_some())
            .map(|(entry, index)| Token {
                index,
                generation: entry.generation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_outlives_its_value_but_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn none_finds_nothing() {
        let mut slots = Slots::default();
        slots.insert(());
        assert_eq!(slots.get(Token::NONE), None);
    }

    #[test]
    fn generations_wrap_around_without_touching_the_reserved_ones() {
        let mut slots = Slots::default();
        let token = slots.insert(());
        slots.remove(token);
        slots.entries[0].generation = LAST_GENERATION;
        let last = slots.insert(());
        slots.remove(last);
        assert_eq!(slots.insert(()).generation, 1);
    }
}
