"""Thousands of connections of every kind, for as long as one likes, and each byte checked.

`python -m soak` starts a server of every kind (`servers.py`), loads on two event loops
(`load.py`) and a probe, and tells what they saw. A load connects as its users would, again and
again (`visits.py`); what it sends and gets is known byte by byte (`content.py`).
"""
