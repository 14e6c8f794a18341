"""User-space instructions per message, counted by callgrind: a figure without noise.

    python benchmarks/instructions.py                                     all, into the page
    python benchmarks/instructions.py --peers floor mantou --sizes 64 --output /tmp/trial

Each server runs under callgrind and is counted between two dumps: neither the start nor the
connections are in the figure. Slow (a virtual CPU), so that messages are few; JIT-compiled programs
(Bun, Node) cannot be counted this way. The kernel's part is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import peers
import report
import runs
from processes import Program, ProgramError

WARM_UP, COUNTED = 1_000, 4_000
COUNTABLE = [peer.name for peer in peers.PEERS if peer.program not in ("bun", "node")]


def count(peer: peers.Peer, files: tuple[str, ...], sizes: list[int]) -> dict[str, Any]:
    """Return a peer's instructions per message by size, as far as it gets, and the error if any."""
    output = peers.BUILD / f"callgrind.{peer.name}"
    command = [
        *("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
        *peers.server_command(peer, "echo", files),
    ]
    result: dict[str, Any] = {"sizes": {}}
    with contextlib.ExitStack() as stack:
        stack.callback(output.unlink, missing_ok=True)
        try:
            server = Program(f"the {peer.label} server", command, None, peers.ENVIRONMENT)
            stack.callback(server.stop)
            port = server.line()
            for size in sizes:
                load = [str(peers.LOAD), "echo", "--port", port, "--connections", "50"]
                load += ["--size", str(size), *(["--tls", files[0]] if files else [])]
                driver = Program(f"the load on {peer.label}", load, None)
                stack.callback(driver.stop)
                driver.line()
                driver.ask(str(WARM_UP))
                dump(server, output)
                driver.ask(str(COUNTED))
                result["sizes"][str(size)] = dump(server, output) / COUNTED
                driver.stop()
        except ProgramError as error:
            result["error"] = str(error)
    return result


def dump(server: Program, output: Path) -> int:
    """Return the instructions since the last dump."""
    peers.run(["callgrind_control", "--dump", str(server.pid)])
    total = 0
    for file in output.parent.glob(f"{output.name}.*"):
        text = file.read_text(errors="replace")
        total += sum(int(n) for n in re.findall(r"^totals: (\d+)", text, re.M))
        file.unlink()
    if not total:
        raise ProgramError(f"{server.name} was not counted: callgrind wrote no dump")
    return total


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=COUNTABLE, default=COUNTABLE)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 1024, 16384])
    parser.add_argument("--output", type=Path, default=runs.RESULTS, help="folder of the result")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if not shutil.which("valgrind"):
        print("needs valgrind", file=sys.stderr)
        return 2
    peers.build_load()
    wanted = [peers.BY_NAME[name] for name in options.peers]
    missing = peers.prepare(wanted)
    run = runs.this_run(missing, f"{COUNTED:,} messages under callgrind")
    figures: dict[str, dict[str, Any]] = {}
    for kind, files in (("plain", ()), ("TLS", peers.certificate())):
        heads = "".join(f"{size:>9} B" for size in options.sizes)
        print(f"{kind + ', instructions per message':<40}{heads}", flush=True)
        figures[kind] = {}
        for peer in wanted:
            if peer.name in missing or "echo" not in peer.roles(bool(files)):
                continue
            found = figures[kind][peer.name] = count(peer, files, options.sizes)
            cells = "".join(f"{n:>11,.0f}" for n in found["sizes"].values())
            print(f"{peer.label:<40}{cells} {found.get('error', '')}".rstrip(), flush=True)
    result = runs.read(options.output)
    result["instructions"] = {"run": run, "figures": figures}
    runs.write(result, options.output)
    report.write(result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
