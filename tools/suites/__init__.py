"""Tests that others wrote, run with mantou's loop in the place of asyncio's.

`cpython` runs CPython's own tests of asyncio, each module in a process (`cpython_module`);
`programs` runs those of packages that build on asyncio. `exclusions` reads `exclusions.toml`, the
one list of what is known not to pass.
"""
