"""Scenarios that run on Bun and on mantou, against the same peers, and are compared."""
