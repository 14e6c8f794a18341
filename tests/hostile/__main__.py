"""Runs every kind of hostile peer, by thousands, against every program that it fits."""

from __future__ import annotations

import argparse
import fnmatch
import sys

from tests.hostile.kinds import KINDS, table
from tests.hostile.measure import cost_of, excess


def main() -> int:
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--kinds", default="*", help="which, as in '*hello*'")
    parser.add_argument("--victims", default="*", help="which, as in 'streams/*' or '*/tls'")
    parser.add_argument("--few", action="store_true", help="a few of each only")
    parser.add_argument("--table", action="store_true", help="print the table of SECURITY.md only")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return 0
    failed = 0
    for kind in KINDS:
        for program, link in kind.victims():
            name = f"{program}/{link}"
            wanted = (kind.name, arguments.kinds), (name, arguments.victims)
            if not all(fnmatch.fnmatch(*pair) for pair in wanted):
                continue
            count = kind.few if arguments.few else kind.many
            cost = cost_of(kind, program, link, count)
            found = excess(kind, link, cost, count)
            failed += bool(found)
            print(
                f"{kind.name}, {name}: {count} peers, {cost.kib:.1f} KiB, {cost.us:.3f} us a "
                f"{kind.per}, an echo {cost.pulse * 1e3:.2f} ms, left {cost.left:.2f} KiB, "
                f"{cost.ends}{''.join(f'; {what}' for what in found)}",
                flush=True,
            )
    print(f"{failed} above their bounds" if failed else "all within their bounds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
