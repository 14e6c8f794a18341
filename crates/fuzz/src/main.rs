//! `mantou-fuzz SECONDS [TARGET...]`: runs targets one after the other, each for so long, with other
//! inputs each time. One that breaks something is written to `build/fuzz/`, and ends the run.

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use mantou_fuzz::{Mutator, TARGETS, Target, kept, target};

/// The clock is looked at after so many inputs.
const BATCH: usize = 64;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(Ok(seconds)) = arguments.next().map(|it| it.parse()) else {
        eprintln!("usage: mantou-fuzz SECONDS [TARGET...]");
        return ExitCode::from(2);
    };
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    for name in names {
        let Some(run) = target(&name) else {
            eprintln!("{name} is none of {:?}", TARGETS.map(|(name, _)| name));
            return ExitCode::from(2);
        };
        match fuzz(&name, run, Duration::from_secs(seconds)) {
            Ok(None) => {}
            Ok(Some(place)) => {
                println!("{name}: broken by {}", place.display());
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Where the input is that broke something, if one did.
fn fuzz(name: &str, run: Target, time: Duration) -> io::Result<Option<PathBuf>> {
    let inputs = kept(name)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.unwrap_or_default().subsec_nanos();
    let mut mutator = Mutator::new(seed.into());
    let mut input = Vec::new();
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for _ in 0..BATCH {
            mutator.make(&inputs, &mut input);
            if catch_unwind(|| run(&input)).is_err() {
                let place = PathBuf::from(format!("build/fuzz/{name}-{seed}-{count}"));
                fs::create_dir_all("build/fuzz")?;
                fs::write(&place, &input)?;
                return Ok(Some(place));
            }
            count += 1;
        }
    }
    println!(
        "{name}: {count} inputs in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    Ok(None)
}
