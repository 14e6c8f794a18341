"""Conversations under trial: what our side does over every transport, while something goes wrong.

`conversations.py` has our halves and `peers.py` the other ones; `verdict.py` says what must hold.
`faults/` makes the kernel's calls fail, `network/` the way between the two.
"""
