//! A slab whose keys are generation-tagged tokens.

use crate::sys::prefetch;
use crate::token::Token;

pub struct Slots<T> {
    /// All but the last one are full. None of them is ever moved: growing neither copies what is
    /// there nor leaves a hole of its size behind.
    pages: Vec<Vec<Entry<T>>>,
    free: Vec<u32>,
    live: usize,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

const PAGE: usize = 256;

/// One below the top: a key of all ones belongs to the selector.
const LAST_GENERATION: u32 = u32::MAX - 1;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, value: T) -> Token {
        self.live += 1;
        if let Some(index) = self.free.pop() {
            let entry = &mut self.pages[index as usize / PAGE][index as usize % PAGE];
            entry.value = Some(value);
            return Token {
                index,
                generation: entry.generation,
            };
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let last = self.pages.len() - 1;
        let page = &mut self.pages[last];
        // Every member holds a descriptor, and those are counted in an i32.
        let index = u32::try_from(last * PAGE + page.len()).unwrap_or(u32::MAX);
        page.push(Entry {
            generation: 1,
            value: Some(value),
        });
        Token {
            index,
            generation: 1,
        }
    }

    pub fn get(&self, token: Token) -> Option<&T> {
        let entry = self.entry(token)?;
        if entry.generation == token.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let entry = self.entry_mut(token)?;
        if entry.generation == token.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    #[inline]
    pub fn prefetch(&self, token: Token) {
        if let Some(entry) = self.entry(token) {
            prefetch(entry);
        }
    }

    /// Puts another value, or none yet, in the place of a live one.
    pub fn replace(&mut self, token: Token, value: Option<T>) -> Option<T> {
        let entry = self.entry_mut(token)?;
        if entry.generation != token.generation {
            return None;
        }
        std::mem::replace(&mut entry.value, value)
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        let entry = self.entry_mut(token)?;
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

    #[inline]
    fn entry(&self, token: Token) -> Option<&Entry<T>> {
        self.pages
            .get(token.index() / PAGE)?
            .get(token.index() % PAGE)
    }

    #[inline]
    fn entry_mut(&mut self, token: Token) -> Option<&mut Entry<T>> {
        self.pages
            .get_mut(token.index() / PAGE)?
            .get_mut(token.index() % PAGE)
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn tokens(&self) -> Vec<Token> {
        let live = self.pages.iter().flatten().zip(0u32..);
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
    fn many_are_found_again() {
        let mut slots = Slots::default();
        let tokens: Vec<_> = (0..3 * PAGE).map(|value| slots.insert(value)).collect();
        assert_eq!(slots.remove(tokens[PAGE]), Some(PAGE));
        assert_eq!(slots.len(), tokens.len() - 1);
        let left = tokens.iter().filter(|token| **token != tokens[PAGE]);
        assert_eq!(slots.tokens(), left.copied().collect::<Vec<_>>());
        for (value, token) in tokens.into_iter().enumerate() {
            let found = (value != PAGE).then_some(value);
            assert_eq!(slots.get(token), found.as_ref());
            assert_eq!(slots.get_mut(token).copied(), found);
        }
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
        slots.pages[0][0].generation = LAST_GENERATION;
        let last = slots.insert(());
        slots.remove(last);
        assert_eq!(slots.insert(()).generation, 1);
    }
}
