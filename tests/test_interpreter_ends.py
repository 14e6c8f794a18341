"""The interpreter ends with everything open: it ends at once, and has nothing to say about it.

The programs are in `left_open.py`. Here each way of ending has everything open at once; with
`--thorough` each state is tried by itself as well, on each kind of loop, which takes minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LOOPS
from tests.left_open import STATES, WAYS
from tests.tls_support import CA, CERTIFICATE, KEY

# What asyncio, and mantou, tell of a loop that nobody closed.
EXPECTED = re.compile(
    r"Task was destroyed but it is pending!\ntask: <.*>\n"
    r"|Future exception was never retrieved\nfuture: <.*>\nConnection(Aborted)?Error: .*\n"
    r"|the loop was closed without shutdown_asyncgens\(\): <coroutine .*> could not run\n"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    thorough = metafunc.config.option.thorough
    together = [("mantou", way, list(STATES)) for way in WAYS]
    together += [(kind, "stops", list(STATES)) for kind in LOOPS if kind != "mantou"]
    # Of asyncio's own transports on its own loop nothing is ours.
    alone = [
        (kind, way, [state])
        for kind in LOOPS
        for way in WAYS
        for state in STATES
        if (kind, state) != ("asyncio", "asyncios")
    ]
    cases = [*together, *alone] if thorough else together
    metafunc.parametrize(
        ("kind", "way", "states"),
        cases,
        ids=[
            f"{kind}-{way}-{states[0] if len(states) == 1 else 'everything'}"
            for kind, way, states in cases
        ],
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("left-open")
    for name, text in {"cert.pem": CERTIFICATE, "key.pem": KEY, "ca.pem": CA}.items():
        (made / name).write_text(text)
    return made


def test_it_ends(directory: Path, kind: str, way: str, states: list[str]) -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.left_open"]
    done = subprocess.run(
        [*command, directory, kind, way, *states],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, EXPECTED.sub("", done.stderr)) == (0, "")
