"""Gets the sources of packages, with their tests, into `build/suites/`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

UNPACKED = Path(__file__).resolve().parent.parent.parent / "build" / "suites"


def from_index(name: str) -> Path:
    """The folder of a package's source distribution, of the version that is installed."""
    version = importlib.metadata.version(name)
    folder = UNPACKED / f"{name}-{version}"
    if not folder.exists():
        with arriving() as there:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            pip += ["--no-binary", ":all:", "--dest", str(there), f"{name}=={version}"]
            subprocess.run(pip, check=True)
            unpack(there, folder)
    return folder


def from_debian(name: str, package: str) -> Path:
    """The folder of the source that Debian's stable package is built from.

    For packages whose source distributions come without their tests. The same version of the
    package is installed beside them, in `site`.
    """
    for folder in UNPACKED.glob(f"{name}-*/site"):
        return folder.parent
    with arriving() as there:
        # Nothing of the system is touched: apt works in a folder of its own.
        targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
        mirrors = subprocess.run(targets, check=True, capture_output=True, text=True).stdout
        mirror = next(line for line in mirrors.splitlines() if line.endswith("/debian/"))
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        sources, configuration = there / "sources.list", there / "apt.conf"
        (there / "lists" / "partial").mkdir(parents=True)
        sources.write_text(f"deb-src [signed-by={keys}] {mirror} stable main\n")
        configuration.write_text(
            f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::State::lists "{there}/lists";\nAPT::Sandbox::User "";\n'
            'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(configuration)}
        for command in (["update"], ["source", "--download-only", "--tar-only", package]):
            subprocess.run(["apt-get", "-qq", *command], check=True, cwd=there, env=environment)
        [archive] = there.glob("*.orig.tar.*")
        version = archive.name.removeprefix(f"{package}_").partition(".orig")[0]
        folder = UNPACKED / f"{name}-{version}"
        unpack(there, folder)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder / "site"), f"{name}=={version}"], check=True)
    return folder


def documentation(page: str) -> str:
    """The source of a page of Python's documentation, from Debian's package."""
    kept = UNPACKED / "python-doc" / page
    if not kept.exists():
        # Which version that is.
        command = ["apt-cache", "depends", "--important", "python3-doc"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        package = re.search(r"Depends: (\S+)", answer)
        if package is None:
            raise FileNotFoundError("apt knows no package python3-doc")
        with arriving() as there:
            subprocess.run(["apt-get", "-qq", "download", package[1]], check=True, cwd=there)
            [archive] = there.glob("*.deb")
            subprocess.run(["dpkg-deb", "--extract", archive, there], check=True)
            # Reached by more than one link.
            source, *_ = there.glob(f"usr/share/doc/*/html/_sources/{page}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            source.replace(kept)
    return kept.read_text()


@contextlib.contextmanager
def arriving() -> Iterator[Path]:
    """A folder that is gone afterwards, on the file system of the folders to come."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as folder:
        yield Path(folder)


def unpack(there: Path, folder: Path) -> None:
    """Unpacks the archive of a folder; what is there has arrived whole."""
    [archive] = there.glob("*.tar.*")
    with tarfile.open(archive) as packed:
        packed.extractall(there, filter="data")
    [unpacked] = (path for path in there.iterdir() if (path / "pyproject.toml").exists())
    shutil.rmtree(folder, ignore_errors=True)
    unpacked.rename(folder)
