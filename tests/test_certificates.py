"""mantou's column of certificates/results.md is what mantou says; `make certificates` has all."""

from __future__ import annotations

import re

import pytest

from tests.certificates.corpus import DAMAGED, GROUPS
from tests.certificates.reasons import REASONS
from tests.certificates.results import Row, cell, committed, damage_and_place, faults
from tests.certificates.verdicts import Verdict, judging_servers, mantou_server

CASES = [case for cases in GROUPS.values() for case in cases]
# Keys of those sizes take their time to be made.
SAMPLES = {
    title: [case for case in cases if not re.search("rsa(3072|4096)", case.name)]
    for title, cases in GROUPS.items()
}

pytestmark = pytest.mark.loops("mantou")


@pytest.mark.parametrize("title", GROUPS)
async def test_mantou_judges_servers_as_the_table_says(title: str) -> None:
    async with judging_servers() as clients:
        for case in SAMPLES[title]:
            verdict = cell(await clients.mantou(case.shown("S")))
            assert verdict == committed()[case.name, "S"], case.name


@pytest.mark.parametrize("title", GROUPS)
async def test_mantou_judges_clients_as_the_table_says(title: str) -> None:
    for case in SAMPLES[title][::2]:
        if "C" in case.roles:
            verdict = cell(await mantou_server(case.shown("C")))
            assert verdict == committed()[case.name, "C"], case.name


async def test_mantou_takes_damage_where_the_table_says() -> None:
    async with judging_servers() as clients:
        for case in DAMAGED[::4]:
            kind, place = damage_and_place(case.name)
            verdict = await clients.mantou(case.shown("S"))
            assert verdict.accepted is (place in committed()[kind, "damage"].split()), case.name


def test_what_is_wrong_is_said_in_words() -> None:
    refusals = {verdict for verdict in committed().values() if verdict.startswith("refused")}
    assert len(refusals) > 20
    assert not [words for words in refusals if "Error" in words or "(" in words]


def test_there_are_as_many_cases_as_promised() -> None:
    names = [case.name for case in (*CASES, *DAMAGED)]
    assert len(names) == len(set(names))
    assert len(CASES) >= 400


def test_a_difference_needs_a_reason_and_a_reason_a_difference() -> None:
    yes, no = Verdict(True), Verdict(False, "no")
    row = Row(
        "something new", "mantou.test", "S", {"mantou": yes, "OpenSSL": no, "cryptography": no}
    )
    missing, *unused = faults([row])
    assert "something new, shown by a server, has no reason" in missing
    assert len(unused) == sum(len(one.cases) for one in REASONS)
