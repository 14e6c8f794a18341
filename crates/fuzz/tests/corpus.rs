//! What is kept of former runs, as it is and changed: some moments of `make fuzz`.
#![allow(clippy::unwrap_used)]

use mantou_fuzz::{Mutator, TARGETS, kept};

/// How many for each target.
const CHANGED: usize = 200;

#[test]
fn what_is_kept_and_what_is_like_it_breaks_nothing() {
    let mut mutator = Mutator::new(1);
    let mut input = Vec::new();
    for (name, run) in TARGETS {
        let inputs = kept(name).unwrap();
        assert!(inputs.len() > 1, "nothing is kept for {name}");
        for input in &inputs {
            run(input);
        }
        for _ in 0..CHANGED {
            mutator.make(&inputs, &mut input);
            run(&input);
        }
    }
}
