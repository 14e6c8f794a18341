//! Inputs made of other inputs.

/// A generator of numbers (xorshift64*): the same seed gives the same inputs.
pub struct Mutator(u64);

/// What parsers tend to look at.
const TELLING: [&[u8]; 10] = [
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n",
    b" ",
    b"\0\0",
    b"\xff\xff",
    b"-----",
    b"\x30\x82",
    b"\x80",
];
/// The longest input.
const LONGEST: usize = 4096;

impl Mutator {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which is above zero.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).unwrap_or_default() % limit
    }

    #[allow(clippy::cast_possible_truncation)]
    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Changes one of the inputs, with parts of another, into `made`.
    pub fn make(&mut self, inputs: &[Vec<u8>], made: &mut Vec<u8>) {
        made.clear();
        made.extend_from_slice(&inputs[self.below(inputs.len())]);
        for _ in 0..=self.below(5) {
            let other = &inputs[self.below(inputs.len())];
            self.change(made, other);
        }
        made.truncate(LONGEST);
    }

    fn change(&mut self, made: &mut Vec<u8>, other: &[u8]) {
        let place = self.below(made.len() + 1);
        let end = (place + self.below(16)).min(made.len());
        match self.below(9) {
            0 => made.insert(place, self.byte()),
            1 => made.truncate(place),
            2 => drop(made.drain(place..end)),
            3 => {
                let part = made[place..end].to_vec();
                made.splice(place..place, part);
            }
            4 => {
                let telling = TELLING[self.below(TELLING.len())];
                made.splice(place..end, telling.iter().copied());
            }
            5 => {
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                made.splice(place..end, other[from..to].iter().copied());
            }
            kind if place < made.len() => {
                made[place] = match kind {
                    6 => self.byte(),
                    7 => made[place] ^ 1 << self.below(8),
                    _ => made[place].wrapping_add(self.byte() % 8).wrapping_sub(4),
                };
            }
            _ => {}
        }
    }
}
