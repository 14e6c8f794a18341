"""User-space instructions per message, counted by callgrind: a figure without noise.

    python benchmarks/instructions.py --peers floor mantou uvloop --sizes 64 1024

Each server runs under callgrind twice, with fewer and with more messages: the difference holds
neither the start nor the connections. Slow (a virtual CPU), so that messages are few; JIT-compiled
programs (Bun, Node) cannot be counted this way. The kernel's part is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
from pathlib import Path

import peers
from processes import Program, ProgramError

FEW, MORE = 2_000, 12_000
POSSIBLE = [peer.name for peer in peers.PEERS if peer.program not in ("bun", "node")]


def count(peer: peers.Peer, files: tuple[str, ...], size: int, messages: int) -> int:
    """Return the instructions of a server's whole life with so many echoes."""
    output = peers.BUILD / f"callgrind.{peer.name}"
    command = [
        *("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
        *peers.server_command(peer, "echo", files),
    ]
    with contextlib.ExitStack() as stack:
        server = Program(f"the {peer.label} server", command, None, peers.ENVIRONMENT)
        stack.callback(server.stop)
        port = server.line()
        load = [str(peers.LOAD), "echo", "--port", port, "--connections", "50"]
        load += ["--size", str(size), *(["--tls", files[0]] if files else [])]
        driver = Program(f"the load on {peer.label}", load, None)
        stack.callback(driver.stop)
        driver.line()
        driver.ask(str(messages))
        peers.run(["callgrind_control", "--dump", str(server.pid)])
    dumps = [*output.parent.glob(f"{output.name}*")]
    total = sum(int(n) for file in dumps for n in totals(file))
    for file in dumps:
        file.unlink()
    return total


def totals(file: Path) -> list[str]:
    return re.findall(r"^(?:totals|summary): (\d+)", file.read_text(errors="replace"), re.M)[:1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=POSSIBLE, default=["floor", "mantou"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 1024, 16384])
    parser.add_argument("--tls", action="store_true", help="over TLS 1.3")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("needs valgrind", file=sys.stderr)
        return 2
    peers.build_load()
    wanted = [peers.BY_NAME[name] for name in options.peers]
    missing = peers.prepare(wanted, tls=options.tls)
    files = peers.certificate() if options.tls else ()
    print(f"{'instructions per message':<28}" + "".join(f"{size:>9} B" for size in options.sizes))
    for peer in wanted:
        cells = []
        for size in options.sizes:
            try:
                if peer.name in missing:
                    raise ProgramError(missing[peer.name])
                more, few = (count(peer, files, size, n) for n in (MORE, FEW))
                cells.append(f"{(more - few) / (MORE - FEW):>11,.0f}")
            except ProgramError as error:
                cells.append(f"{'failed':>11}")
                print(error, file=sys.stderr)
        print(f"{peer.label:<28}" + "".join(cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
