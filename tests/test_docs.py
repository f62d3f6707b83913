"""The pages: their code runs, their links resolve, and the sources that they name exist."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
OURS = [page for page in PAGES if not {"_build", "decisions"} & set(page.relative_to(ROOT).parts)]
FENCED = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$", re.DOTALL | re.MULTILINE)
SOURCE_FOLDERS = ("worldmodel", "envs", "agents", "training")


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_code_of_the_readme_runs():
    blocks = code_blocks(README, "python")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readme_fits_150_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_tree_of_the_readme_names_every_folder_and_no_other():
    tree = next(block for block in code_blocks(README, "") if "worldmodel/ " in block)
    named = set(re.findall(r"^ *((?:\w+/ +)+)", tree, re.MULTILINE))
    named = {folder for line in named for folder in line.replace("/", "").split()}
    folders = {path.parent.name for top in SOURCE_FOLDERS for path in (ROOT / top).rglob("__init__.py")}
    assert named == folders | {"benchmarks", "examples", "tests"}


def test_the_files_that_contributing_names_exist():
    named = re.findall(
        r"`((?:worldmodel|envs|agents|training|tests|docs)/[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    )
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.name)
def test_every_name_of_an_api_page_exists(page):
    for name in re.findall(r"^\.\. auto\w+:: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert pkgutil.resolve_name(name).__doc__, name


@pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_at_most_120_characters_long(page):
    prose = FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.startswith("|")] == []


def options_of_each_command() -> dict[str, set[str]]:
    """As tests/training/cli/options.txt lists them."""
    parts = (ROOT / "tests" / "training" / "cli" / "options.txt").read_text(encoding="utf-8").split("\n\n")
    return {part.split("\n")[0]: set(re.findall(r"(?<![\w-])--[\w.-]+", part)) for part in parts if part}


def command_lines(page: Path) -> list[list[str]]:
    """The words after `videogen-dream` in the page's shell blocks and inline code."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    pieces = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for piece in pieces for line in piece.split("\n")]
    lines += [" ".join(piece.split()) for piece in re.findall(r"`(videogen-dream [^`]+)`", FENCED.sub("", text))]
    found = [re.search(r"videogen-dream (.*)", re.sub(r"\s#.*", "", line)) for line in lines]
    return [match[1].split() for match in found if match]


@pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_and_their_options_exist(page):
    known, wrong = options_of_each_command(), []
    for command, *words in command_lines(page):
        if command.isupper() or command.startswith("-"):
            continue  # such as COMMAND
        options = {word.partition("=")[0].strip(")") for word in words if word.startswith("--")}
        wrong += [f"{command} {option}" for option in options - known.get(command, set()) - {"--help"}]
        wrong += [command] if command not in known else []
    assert wrong == []


@pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_imports_what_exists(page):
    for block in code_blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("worldmodel"):
                for name in node.names:
                    assert pkgutil.resolve_name(f"{node.module}:{name.name}") is not None
