"""The way between two networks: late, lossy, in disorder, narrow, or gone for a while.

`forwarder.py` is the way, a program between two tunnels; `way.py` lays it, `conditions.py` says
what is tried.
"""
