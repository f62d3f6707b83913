"""The notebooks run from the first cell to the last, and show something; they are stored without output."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[str]:
    book = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def run(source: str, scope: dict):
    """Run a cell; the value of its last line, as a notebook shows it."""
    *lines, last = source.split("\n")
    try:
        code = compile(last, "cell", "eval")
    except SyntaxError:
        exec(compile(source, "cell", "exec"), scope)
        return None
    exec(compile("\n".join(lines), "cell", "exec"), scope)
    return eval(code, scope)


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_output(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    for cell in book["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell["id"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_compile_and_import_what_exists(path):
    for source in cells(path, "code"):
        compile(source, "cell", "exec")
        imports = [line for line in source.split("\n") if line.startswith(("import ", "from "))]
        exec("\n".join(imports), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_to_pages(path):
    for source in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#\s]+)", source):
            assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.vizdoom
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.timeout(1800)
def test_a_notebook_runs_and_shows_pictures_and_films(path):
    scope: dict = {}
    shown = [run(source, scope) for source in cells(path, "code")]
    pictures = [one._repr_png_() for one in shown if hasattr(one, "_repr_png_")]
    films = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert len(pictures) >= 3 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert films and all(film.startswith("<video") and "base64," in film for film in films)
