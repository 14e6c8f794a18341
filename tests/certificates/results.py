"""The page: what each verifier said, why they differ, and mantou's column read again."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.certificates.bettertls import Vector
from tests.certificates.reasons import REASONS, reason, unused
from tests.certificates.verdicts import Verdict

PAGE = Path(__file__).resolve().parent / "results.md"
VERIFIERS = ("mantou", "OpenSSL", "cryptography")
ROLES = {"S": "a server", "C": "a client"}

HEAD = """
# Certificates: mantou, OpenSSL and cryptography

{cases} chains, each shown by a server and most by a client, too, {damaged} certificates with damage
in their encoding, and {vectors} vectors of BetterTLS. Verdicts of mantou (rustls and webpki),
{openssl} and cryptography {cryptography}, of {date}. `make certificates` asks them anew and writes
this page, and fails where one differs without a reason; `make test` compares mantou's column.

An `ssl.SSLContext` given to mantou gave the verdicts of OpenSSL alone, in OpenSSL's words, in each
case. So did a `mantou.SSLContext`, which has OpenSSL judge and rustls do the handshake, but for
{odd} certificates that rustls cannot use: see [below](#mantousslcontext-instead-of-openssl).

The chains are usual ones (a root that is trusted, an intermediate, an end entity for `mantou.test`)
with one thing changed, which is the case's name. They are shown by a peer that sends any bytes.
What counts is what a program says on the wire (it goes on, or sends an alert) and in its error.
Where both a server and a client are judged alike, the words are those about the server.
"""


@dataclass(frozen=True)
class Row:
    """A chain, shown in one role."""

    name: str
    asked: str
    role: str
    verdicts: Mapping[str, Verdict]

    @property
    def letters(self) -> str:
        return "".join("A" if self.verdicts[one].accepted else "R" for one in VERIFIERS)

    @property
    def differs(self) -> bool:
        return len(set(self.letters)) > 1

    @property
    def number(self) -> str:
        """That of the reason, if they differ."""
        found = reason(self.name, self.letters) if self.differs else None
        return "" if found is None else str(REASONS.index(found) + 1)


def faults(rows: Sequence[Row]) -> list[str]:
    """Differences without a reason, and reasons without a difference."""
    differences = [row for row in rows if row.differs]
    missing = [
        f"{row.name}, shown by {ROLES[row.role]}, has no reason: {cells(row)}"
        for row in differences
        if not row.number
    ]
    return missing + [
        f"explains nothing: {one}" for one in unused((row.name, row.letters) for row in differences)
    ]


def cell(verdict: Verdict) -> str:
    if verdict.accepted:
        return "accepted"
    words = re.sub(r" \((checked against|encountered|_ssl).*", "", verdict.words)
    words = words.removeprefix("candidates exhausted: ").removeprefix("[SSL] ")
    words = re.sub(r"AlgorithmIdentifier \{.*|ParseError \{ kind: (\w+).*", r"\1", words)
    words = words.partition(", or that is of a kind")[0]
    # Nothing that markdown would read, and nothing invisible.
    return "refused: " + re.sub(r"[|*<>\\\0]", ".", words)


def cells(row: Row) -> list[str]:
    return [cell(row.verdicts[one]) for one in VERIFIERS]


def shown(name: str) -> str:
    return re.sub(r"([|*_<>])", r"\\\1", name)


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| case | shown by | mantou | OpenSSL | cryptography | why |",
        "|---|---|---|---|---|---|",
    ]
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)
    for name, of in by_name.items():
        if len(of) == 2 and of[0].letters == of[1].letters and cells(of[0])[0] == cells(of[1])[0]:
            groups = {"both": of[0]}
        else:
            groups = {ROLES[row.role]: row for row in of}
        for who, row in groups.items():
            lines.append("| " + " | ".join([shown(name), who, *cells(row), row.number]) + " |")
    return "\n".join(lines)


def reasons_table(rows: Sequence[Row]) -> str:
    counted = Counter(row.number for row in rows if row.differs)
    lines = ["| | why | differences |", "|---|---|---|"]
    for index, one in enumerate(REASONS):
        lines.append(f"| {index + 1} | {one.words} | {counted[str(index + 1)]} |")
    return "\n".join(lines)


def damage_table(rows: Sequence[Row]) -> str:
    """A row for each kind of damage: where is told by the path from the signed part on."""
    lines = [
        "| damage | places | all refuse | all accept | differ | why | mantou accepts it at |",
        "|---|---|---|---|---|---|---|",
    ]
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[damage_and_place(row.name)[0]].append(row)
    for kind, of in by_kind.items():
        letters = Counter(row.letters for row in of)
        different = [row for row in of if row.differs]
        why = ", ".join(sorted({row.number for row in different}, key=int))
        places = [damage_and_place(row.name)[1] for row in of if row.verdicts["mantou"].accepted]
        counts = [len(of), letters["RRR"], letters["AAA"], len(different)]
        lines.append(
            "| " + " | ".join([kind, *map(str, counts), why, " ".join(places) or "none"]) + " |"
        )
    return "\n".join(lines)


def damage_and_place(name: str) -> tuple[str, str]:
    kind, _, place = name.removeprefix("damage: ").rpartition(", at ")
    return kind, place.partition(" ")[0]


def vectors_table(results: Sequence[tuple[Vector, Mapping[str, Verdict]]]) -> str:
    lines = [
        "| suite | needs | vectors | as expected: mantou | OpenSSL | cryptography |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Mapping[str, bool]]] = defaultdict(list)
    for vector, verdicts in results:
        right = {one: verdicts[one].accepted is vector.expected for one in VERIFIERS}
        groups[vector.suite, vector.needs or "nothing"].append(right)
    for (suite, needs), of in groups.items():
        right = [str(sum(one[who] for one in of)) for who in VERIFIERS]
        lines.append("| " + " | ".join([suite, needs, str(len(of)), *right]) + " |")
    return "\n".join(lines)


@functools.cache
def committed() -> dict[tuple[str, str], str]:
    """Mantou's verdicts as the page has them, by case and role; of damage, the places accepted."""
    found = {}
    for line in PAGE.read_text().splitlines():
        row = re.split(r" ?(?<!\\)\| ?", line)[1:-1]
        if len(row) == 6 and row[1] in ("both", *ROLES.values()):
            name = re.sub(r"\\(.)", r"\1", row[0])
            roles = ROLES if row[1] == "both" else [key for key in ROLES if ROLES[key] == row[1]]
            found |= {(name, role): row[2] for role in roles}
        elif len(row) == 7 and row[1].isdigit():
            found[row[0], "damage"] = row[6]
    return found
