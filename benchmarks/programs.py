"""The benchmark of unchanged asyncio programs: the same program on mantou's loop and on others.

    python benchmarks/programs.py                                everything (an hour)
    python benchmarks/programs.py --rows 'protocol-*' --contenders mantou uvloop
    python benchmarks/programs.py --list

`--add` measures rows again and keeps the others' figures. Rounds are interleaved as in suite.py;
figures are quoted as the median of the rounds' ratios to uvloop.
"""

from __future__ import annotations

import argparse
import fnmatch
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import debian
import peers
import program_report
import runs
from figures import table
from processes import allow_descriptors
from program_runner import REQUIREMENTS, SITE, ProgramRunner
from rows import BASE, CONTENDERS, ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rows import Contender


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [each.name for each in CONTENDERS]
    parser.add_argument("--rows", nargs="+", default=["*"], help="names, or patterns")
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=9, help="of each contender (9)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round, whole (3)")
    parser.add_argument("--list", action="store_true", help="name the rows and contenders")
    return runs.parse(parser, arguments)


def main() -> int:
    options = parse()
    chosen = [row for row in ROWS if any(fnmatch.fnmatch(row.name, p) for p in options.rows)]
    if options.list or not chosen:
        print("\n".join(f"{row.name:<20}{row.title}" for row in ROWS))
        print("contenders:", ", ".join(each.name for each in CONTENDERS))
        return 0 if options.list else 2
    allow_descriptors()
    # The base always takes part: all is quoted as a ratio to it.
    wanted = [c for c in CONTENDERS if c.name in options.contenders or c.name == BASE]
    missing = prepare(wanted)
    for name, why in missing.items():
        print(f"{name} is missing: {why}", file=sys.stderr)
    taking_part = [each for each in wanted if each.name not in missing]

    result = runs.read(options.output, program_report.FIGURES) if options.add else {"scenarios": {}}
    cores = "on different cores" if options.pin else "not pinned"
    rounds = f"{options.rounds} rounds of {options.seconds} s"
    run = runs.this_run(missing, f"{rounds}, program and load {cores}, the allocator's defaults")
    run["versions"] = versions(run["versions"])
    runner = ProgramRunner(options)
    for number, row in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {row.title}", flush=True)
        figures = runner.run(row, taking_part)
        print(table(row, figures, CONTENDERS, BASE), flush=True)
        result["scenarios"][row.name] = {"run": run, "results": figures}
        runs.write(result, options.output, program_report.FIGURES)  # a long run may be broken off
    program_report.write(result, options.output)
    print(f"written: {options.output}")
    return 0


def prepare(wanted: list[Contender]) -> dict[str, str]:
    """Install what is measured; return the contenders that are missing, with the reason."""
    peers.build_load()
    peers.BUILD.mkdir(parents=True, exist_ok=True)
    peers.install_requirements(REQUIREMENTS, SITE)
    missing: dict[str, str] = {}
    for each in wanted:
        try:
            for distribution in each.needs:
                peers.install_distribution(distribution)
        except (subprocess.CalledProcessError, OSError) as error:
            missing[each.name] = peers.reason(error)
    return missing


def versions(everything: dict[str, str]) -> dict[str, str]:
    """Return the versions of the loops, of the programs, and of what drives them."""
    loops = sorted({name for each in CONTENDERS for name in each.needs})
    used = {name: everything[name] for name in ("python", "rustc", *loops) if name in everything}
    lines = (peers.ROOT / "requirements" / REQUIREMENTS).read_text().splitlines()
    found = dict(line.split("==") for line in lines if "==" in line)
    return {**used, "ssl": ssl.OPENSSL_VERSION, **found, **debian.versions()}


if __name__ == "__main__":
    sys.exit(main())
