"""Pages whose text is a file elsewhere in the repository, with its links as seen from here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]

# The page, and the file that it shows. Where there is no such file, the page is shown as it is.
PAGES = {
    "benchmarks/asyncio-programs": "benchmarks/results/programs.md",
    "benchmarks/builds": "benchmarks/results/builds.md",
    "benchmarks/figures": "benchmarks/results/README.md",
    "benchmarks/packets": "benchmarks/results/packets.md",
    "benchmarks/profile": "benchmarks/PROFILE.md",
    "benchmarks/proxies": "benchmarks/results/proxies.md",
    "benchmarks/redis": "benchmarks/results/redis.md",
    "explanation/architecture": "ARCHITECTURE.md",
    "project/bun": "conformance/results.md",
    "project/certificates": "tests/certificates/results.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/security": "SECURITY.md",
    "project/tls-peers": "tests/interop/results.md",
}

_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def shown(file: str) -> str:
    """The file that stands for this one in the documentation, from the root of the repository."""
    for page, source in PAGES.items():
        if source == file:
            return f"docs/{page}.md"
    return file


def relinked(text: str, source: str, page: str) -> str:
    """The text of a file with its links seen from the page that shows it."""

    def there(match: re.Match[str]) -> str:
        target = shown(os.path.normpath(Path(source).parent / match[1]))
        return f"]({os.path.relpath(target, Path('docs', page).parent)}{match[2] or ''})"

    return _LINK.sub(there, text)


def _read(app: Sphinx, page: str, content: list[str]) -> None:
    source = PAGES.get(page)
    if source is not None and (ROOT / source).exists():
        app.env.note_dependency(ROOT / source)
        content[0] = relinked((ROOT / source).read_text(), source, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
