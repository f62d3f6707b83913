"""Sphinx settings; `make docs` builds these pages into docs/_build."""

import re
from pathlib import Path
from typing import Any

from worldmodel import __version__

project = "VideoGenDream"
author = "VideoGenDream authors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]  # myst_nb reads pages by myst_parser
exclude_patterns = ["_build", "jupyter_execute", "decisions/000-template.md"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Notebooks are stored without output and run here, once for each change of theirs.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
nb_execution_timeout = 1200  # seconds for a cell
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # progress bars

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
suppress_warnings = ["ref.python"]  # a name that two modules export

html_theme = "furo"
html_title = f"{project} {release}"

_INLINE_SECTION = re.compile(r"^(Returns|Raises|Yields|Source|Letters|Time): (?=\S)")


def _to_rst(_app: Any, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text with `code` in backticks, not reStructuredText: escape all other markup."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if in_example:
            continue
        line = _INLINE_SECTION.sub(r"**\1:** ", line)
        code_or_text = re.split(r"(``[^`]+``|`[^`]+`)", line)
        lines[number] = "".join(
            f"``{part.strip('`')}``" if part.startswith("`") else _escaped(part) for part in code_or_text
        )


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\*)\*(?!\*)|\||(?<=\w)_(?=\W|$)", r"\\\g<0>", text)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _to_rst, priority=400)  # before napoleon, which has 500
