"""How Sphinx makes the documentation: `make docs`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "python"), str(ROOT)]

import mantou  # noqa: E402

project = "mantou"
author = "the mantou authors"
project_copyright = author
version = release = mantou.__version__

extensions = [
    "myst_parser",
    "extensions.api",
    "extensions.commands",
    "extensions.conformance",
    "extensions.examples",
    "extensions.exclusions",
    "extensions.options",
    "extensions.output",
    "extensions.repository",
    "extensions.states",
]
exclude_patterns = ["extensions"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
# Files of the repository that no page shows are offered as they are.
myst_all_links_external = False
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"mantou {release}"
html_static_path = ["static"]
html_css_files = ["mantou.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
add_module_names = False
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
nitpicky = False
