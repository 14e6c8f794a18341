//! What was kept of former runs, as it is and changed a little: some seconds of `make fuzz`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use mantou_fuzz::TARGETS;

const CHANGES: usize = 20;

#[test]
fn what_is_kept_and_what_is_like_it_breaks_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut random = Random(1);
    for (name, run) in TARGETS {
        let mut inputs: Vec<Vec<u8>> = fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(!inputs.is_empty(), "nothing is kept for {name}");
        inputs.sort();
        run(&[]);
        for input in &inputs {
            run(input);
            for _ in 0..CHANGES {
                run(&random.change(input.clone()));
            }
        }
    }
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn change(&mut self, mut input: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(3) {
            let place = self.below(input.len() + 1);
            let byte = u8::try_from(self.below(256)).unwrap();
            match self.below(3) {
                0 => input.insert(place, byte),
                1 => input.truncate(place),
                _ if place < input.len() => input[place] = byte,
                _ => {}
            }
        }
        input
    }
}
