"""Faults from below: the kernel's calls fail, or do less than they were asked for.

`shim.c` stands between mantou and the C library (`LD_PRELOAD`), `shim.py` tells it what is to fail,
`errnos.py` says with what each call may fail and what is to become of it.
"""
