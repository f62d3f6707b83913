"""Sphinx settings; `make docs` builds these pages into docs/_build."""

from worldmodel import __version__

project = "VideoGenDream"
author = "VideoGenDream authors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build", "decisions/000-template.md"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
