"""`python -m mantou`: the same as the command `mantou`."""

from ._cli import main

if __name__ == "__main__":
    main("python -m mantou")
