"""mantou is for the main interpreter; in another it is refused before it has done anything."""

from __future__ import annotations

import sys

import pytest

from tests.scripts import run_script

# A sub-interpreter tries it before or after the main one, which then uses it.
PROGRAM = """
    import asyncio, importlib
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        break

    def in_another(*config, **options):
        code = '''if 1:
            try:
                import mantou
            except ImportError as error:
                text = str(error)
            else:
                text = "imported"
            print(text)
        '''
        another = interpreters.create(*config, **options)
        print(interpreters.run_string(another, code) or "ran", flush=True)
        interpreters.destroy(another)

    {before}
    in_another({config})
    import mantou

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60
        server = dict(hostname="127.0.0.1", port=0, socket={{"open": lambda socket: socket.end()}})
        with mantou.listen(**server) as listener:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=listener.port, socket={{"data": print}}
            )
            await socket.closed()

    mantou.run(main())
    print("served")
"""
OURS = "mantou does not support sub-interpreters: use it in the main one"
CPYTHONS = "module mantou._core does not support loading in subinterpreters"
# Since 3.12 there are some with a lock of their own, which CPython refuses by itself.
CONFIGS = {"": OURS if sys.version_info < (3, 12) else CPYTHONS}
if sys.version_info >= (3, 13):
    CONFIGS["'legacy'"] = OURS
elif sys.version_info >= (3, 12):
    CONFIGS["isolated=False"] = OURS


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("before", ["import mantou", "pass"], ids=["after", "before"])
def test_it_is_refused_and_the_main_one_goes_on(before: str, config: str) -> None:
    """Types are made once in a process: those of an interpreter that is gone would be no good."""
    done = run_script(PROGRAM.format(before=before, config=config))
    assert (done.stdout.splitlines(), done.stderr) == ([CONFIGS[config], "ran", "served"], "")
