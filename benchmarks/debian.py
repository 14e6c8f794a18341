"""Programs that Debian has: those on the PATH, else out of its packages, unpacked into build/."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from peers import BUILD, reason, run

PACKAGES = {
    "wrk": "wrk",
    "haproxy": "haproxy",
    "redis-server": "redis-server",
    "initdb": "postgresql",
    "postgres": "postgresql",
}
UNPACKED = BUILD / "debian"
# Debian keeps a server's programs apart from the PATH when several versions can be installed.
PLACES = ("usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")


@functools.cache
def command(program: str) -> list[str]:
    """Return what starts a program, to be followed by its arguments."""
    found = shutil.which(program) or look(program)
    if found is None:
        unpack(PACKAGES[program])
        found = look(program)
    if found is None:
        raise FileNotFoundError(f"Debian's {PACKAGES[program]} has no {program}")
    if not found.startswith(str(UNPACKED)):
        return [found]
    folders = {str(library.parent) for library in (UNPACKED / "usr/lib").rglob("*.so*")}
    return ["env", f"LD_LIBRARY_PATH={os.pathsep.join(sorted(folders))}", found]


def versions() -> dict[str, str]:
    """Return what each of them calls itself, or why it is missing."""
    found = {}
    for program in PACKAGES:
        try:
            asking = [*command(program), "--version"]
        except (OSError, subprocess.CalledProcessError) as error:
            found[program] = f"missing: {reason(error)}"
            continue
        # wrk says it above its usage, and so fails.
        said = subprocess.run(asking, capture_output=True, text=True, check=False)
        found[program] = (said.stdout + said.stderr).strip().partition("\n")[0]
    return found


def look(program: str) -> str | None:
    for root in (Path("/"), UNPACKED):
        for place in PLACES:
            for folder in sorted(root.glob(place)):
                if (folder / program).exists():
                    return str(folder / program)
    return None


def unpack(package: str) -> None:
    """Download and unpack a package with what it depends on and is not installed."""
    archives = UNPACKED / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    if shutil.which("apt-get") is None:
        raise FileNotFoundError(f"{package} is not installed, and there is no apt-get")
    plan = run(["apt-get", "install", "--simulate", "--no-install-recommends", package])
    wanted = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    subprocess.run(
        ["apt-get", "download", "--quiet", *wanted],
        cwd=archives,
        check=True,
        capture_output=True,
        text=True,
    )
    for archive in archives.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(archive), str(UNPACKED)])
