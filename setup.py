"""What pyproject.toml cannot say: the package's page is README.md without what leads nowhere outside the repository."""

import re
from pathlib import Path

from setuptools import setup

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n(?:\n\*[^*].*?\*\n(?=\n))?\n?", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)[^)]*\)")


def package_page(readme: str) -> str:
    """README.md for a place where its neighbours are not: without pictures and their captions, links as plain text."""
    parts = _FENCED.split(readme)
    parts[::2] = [_LINK.sub(r"\1", _PICTURE.sub("", part)) for part in parts[::2]]
    return "".join(parts)


setup(
    long_description=package_page((Path(__file__).parent / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
