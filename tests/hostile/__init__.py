"""Peers that want to cost us as much as they can, and what they get.

`victim.py` runs a server in a process of its own (`server.py`) and asks it what it holds and has
spent; `attacks.py` are the peers, with `hello.py` and `forging.py` for what no TLS library would
say; `kinds.py` has a bound for each, which SECURITY.md repeats, and `measure.py` what it really
costs. `make hostile` runs them all by thousands, `tests/test_hostile.py` a few of each.
"""
