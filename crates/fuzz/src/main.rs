//! libFuzzer over the target that `FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn named() -> fn(&[u8]) {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = mantou_fuzz::target(&name) else {
        let names = mantou_fuzz::TARGETS.map(|(name, _)| name).join(", ");
        eprintln!("FUZZ_TARGET={name} is none of {names}");
        std::process::exit(2);
    };
    target
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.get_or_init(named)(data));
