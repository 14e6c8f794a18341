"""Takes the folder that a wheel was built in out of its SBOM, where maturin writes it.

Otherwise the same sources would give other bytes in another folder:
`python -m tools.neutral_sbom FOLDER WHEEL...`
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zipfile
from pathlib import Path


def main(folder: str, *wheels: str) -> None:
    """Write each wheel anew."""
    for wheel in wheels:
        neutralise(Path(wheel), f"file://{folder}".encode())


def neutralise(wheel: Path, written: bytes) -> None:
    """Replace the folder, and what RECORD says of the files that had it."""
    made = wheel.with_suffix(".new")
    lines: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(made, "w") as new:
        # RECORD comes last: it tells of all others.
        for entry in sorted(old.infolist(), key=lambda it: it.filename.endswith("/RECORD")):
            content = old.read(entry)
            if "/sboms/" in entry.filename:
                content = content.replace(written, b"file:///mantou")
                lines[entry.filename] = record_line(entry.filename, content)
            elif entry.filename.endswith(".dist-info/RECORD"):
                recorded = content.decode().splitlines()
                recorded = [lines.get(line.split(",")[0], line) for line in recorded]
                content = "\n".join([*recorded, ""]).encode()
            new.writestr(entry, content)
    os.replace(made, wheel)


def record_line(name: str, content: bytes) -> str:
    """One file in RECORD, as the format of wheels has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
