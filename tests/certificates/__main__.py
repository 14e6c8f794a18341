"""Asks all verifiers about all chains, and writes the page.

python -m tests.certificates [PATTERN]     with a pattern: those cases only, shown and not written
"""

from __future__ import annotations

import datetime
import fnmatch
import ssl
import sys
import warnings
from collections.abc import Mapping, Sequence

import cryptography

import mantou
from tests.certificates import bettertls
from tests.certificates.corpus import DAMAGED, GROUPS
from tests.certificates.corpus.case import Case
from tests.certificates.results import (
    HEAD,
    PAGE,
    ROLES,
    Row,
    cell,
    cells,
    damage_table,
    faults,
    reasons_table,
    table,
    vectors_table,
)
from tests.certificates.verdicts import (
    ClientSide,
    Verdict,
    all_servers,
    cryptography_client,
    judging_servers,
    openssl_client,
)

# What a mantou.SSLContext may not do as OpenSSL does, and why.
RUSTLS_CANNOT = {
    "key: *": "rustls has no algorithm for the key, or says in its own words what is wrong with it",
    "key usage: key* alone": "with TLS 1.2 OpenSSL looks at it behind the verification",
    "damage: of indefinite length, *": "BER that is not DER: rustls does not find the key",
    "damage: constructed or not, *": "the same",
    "damage: a longer length *": "the same",
}

VECTORS = """
## BetterTLS

{count} vectors of the suites of names and constraints and of path building (BetterTLS
{version}, made anew, with Go), which say what is to be accepted. mantou has to judge each as they
say. OpenSSL does not go back where the first issuer leads nowhere, takes common names for host
names, and holds them to constraints of addresses.

{table}
"""


async def main(pattern: str = "") -> int:
    """Returns 1 if one differs without a reason."""
    # cryptography's, that it will refuse something in future.
    warnings.simplefilter("ignore")
    groups: dict[str, list[Row]] = {}
    odd: list[str] = []
    wrong: list[str] = []
    async with judging_servers() as clients:
        for title, cases in {**GROUPS, "Damage": DAMAGED}.items():
            wanted = [one for one in cases if not pattern or fnmatch.fnmatch(one.name, pattern)]
            groups[title] = await ask(clients, wanted, odd, wrong)
            print(f"{title}: {len(wanted)} chains", flush=True)
        if pattern:
            for row in (row for rows in groups.values() for row in rows):
                print(
                    f"{row.name}, shown by {ROLES[row.role]}: {row.number}",
                    *cells(row),
                    sep="\n   ",
                )
            print(*odd, *wrong, sep="\n")
            return int(bool(wrong))
        rows = [row for of in groups.values() for row in of]
        wrong += faults(rows)
        # Those take minutes.
        vectors = [] if wrong else await ask_bettertls(clients)
    wrong += [
        f"BetterTLS {one.suite} {one.number}: {verdicts['mantou']}, {one.expected} is expected"
        for one, verdicts in vectors
        if verdicts["mantou"].accepted is not one.expected
    ]
    if not wrong:
        PAGE.write_text(page(groups, odd, vectors))
    for fault in wrong:
        print(fault)
    print(f"{len(rows)} verdicts of each, {len(vectors)} vectors of BetterTLS, {len(wrong)} faults")
    return int(bool(wrong))


async def ask(
    clients: ClientSide, cases: Sequence[Case], odd: list[str], wrong: list[str]
) -> list[Row]:
    rows = []
    for case in cases:
        for role in case.roles:
            shown = case.shown(role)
            verdicts = await (clients.all(shown) if role == "S" else all_servers(shown))
            if verdicts["OpenSSL's in mantou"] != verdicts["OpenSSL"]:
                wrong.append(f"{case.name}: OpenSSL says otherwise within mantou: {verdicts}")
            if verdicts["mantou.SSLContext"] != verdicts["OpenSSL"]:
                told = [cell(verdicts[one]) for one in ("OpenSSL", "mantou.SSLContext")]
                why = [
                    RUSTLS_CANNOT[one] for one in RUSTLS_CANNOT if fnmatch.fnmatch(case.name, one)
                ]
                if not why:
                    wrong.append(f"{case.name}: mantou.SSLContext differs: {told}")
                odd.append(
                    f"| {case.name} | {ROLES[role]} | {' | '.join(told)} | {' '.join(why)} |"
                )
            rows.append(Row(case.name, case.asked, role, verdicts))
    return rows


async def ask_bettertls(
    clients: ClientSide,
) -> list[tuple[bettertls.Vector, Mapping[str, Verdict]]]:
    if not bettertls.is_there():
        raise SystemExit("BetterTLS is made by a program for Go: there is no `go` here")
    found = []
    for vector in bettertls.vectors():
        verdicts = {
            "mantou": bettertls.of_chain(await clients.mantou(vector.shown)),
            "OpenSSL": bettertls.of_chain(openssl_client(vector.shown)),
            "cryptography": cryptography_client(vector.shown),
        }
        found.append((vector, verdicts))
    return found


def page(
    groups: Mapping[str, Sequence[Row]],
    odd: Sequence[str],
    vectors: Sequence[tuple[bettertls.Vector, Mapping[str, Verdict]]],
) -> str:
    rows = [row for of in groups.values() for row in of]
    damaged = groups["Damage"]
    head = HEAD.format(
        cases=sum(map(len, GROUPS.values())),
        damaged=len(damaged),
        vectors=len(vectors),
        openssl=" ".join(ssl.OPENSSL_VERSION.split()[:2]),
        cryptography=cryptography.__version__,
        date=datetime.datetime.now(datetime.UTC).date(),
        odd=len(odd),
    )
    parts = [head.strip(), "## Why they differ\n\n" + reasons_table(rows)]
    parts += [f"## {title}\n\n{table(of)}" for title, of in groups.items() if title != "Damage"]
    parts.append(
        "## Damage\n\nThe end entity's certificate, each of its elements damaged in turn and then "
        "signed. A place is the path to the element: 0.1 is the serial number, 0.2 the algorithm, "
        "0.3 "
        "the issuer, 0.4 the validity, 0.5 the subject, 0.6 the key, 0.7 the extensions.\n\n"
        + damage_table(damaged)
    )
    heads = "| case | shown by | OpenSSL | mantou.SSLContext | why |\n|---|---|---|---|---|\n"
    parts.append("## mantou.SSLContext instead of OpenSSL\n\n" + heads + "\n".join(odd))
    parts.append(
        VECTORS.format(
            count=len(vectors),
            version=bettertls.VERSION,
            table=vectors_table(vectors),
        ).strip()
    )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(mantou.run(main(*sys.argv[1:])))
