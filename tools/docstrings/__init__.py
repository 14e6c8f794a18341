"""Docstrings that are written in one place and read in another."""
