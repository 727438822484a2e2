"House rules of notebooks that a machine can check; each is explained in a page's own words."

import re
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from seglab.core import ConfigError
from seglab.parameters import fit_parameters, read_values

NBS = Path(__file__).parents[1] / "nbs"
PAGES = [
    path
    for path in sorted(NBS.rglob("*.ipynb"))
    if not any(part.startswith((".", "_")) for part in path.relative_to(NBS).parts)
]
EXPERIMENTS = [path for path in PAGES if path.parent.name == "experiments"]
BENCHMARKS = [path for path in PAGES if path.parent.name == "benchmarks"]
NUMBERED = [path for path in PAGES if re.match(r"\d\d", path.name)]
PICTURES, KILOBYTES = 10, 100  # most pictures a page, and most kB a picture


def names(pages: list[Path]) -> dict:
    "Parametrise a test over pages, called by their file names."
    return dict(argnames="page", argvalues=pages, ids=[page.stem for page in pages])


def read(page: Path) -> NotebookNode:
    return nbformat.read(page, as_version=4)


def code(page: Path) -> list[NotebookNode]:
    return [cell for cell in read(page).cells if cell.cell_type == "code" and cell.source.strip()]


def directives(cell: NotebookNode) -> set[str]:
    return set(re.findall(r"^#\| *([\w-]+)", cell.source, re.M))


@pytest.mark.parametrize(**names([*NUMBERED, *EXPERIMENTS, *BENCHMARKS]))
def test_a_page_opens_with_title_and_promise(page: Path) -> None:
    title, promise, *rest = read(page).cells[0].source.splitlines()
    assert title.startswith("# ") and promise.startswith("> ") and len(rest) >= 2


@pytest.mark.parametrize(**names(NUMBERED))
def test_a_page_exports_to_the_module_of_its_name(page: Path) -> None:
    module = page.stem.partition("_")[2]
    cells = code(page)
    exported = [cell for cell in cells if "export" in directives(cell)]
    assert not exported or cells[0].source.strip() == f"#| default_exp {module}"
    hidden = [cell.id for cell in cells if directives(cell) & {"hide", "exporti", "exports"}]
    assert not hidden, "a check worth running is worth reading"


@pytest.mark.parametrize(**names(NUMBERED))
def test_what_is_exported_is_tried_soon(page: Path) -> None:
    untried = 0
    for cell in code(page):
        lines = [line for line in cell.source.splitlines() if line and not line.startswith("#")]
        only_imports = all(re.match(r"import |from |\s|\)", line) for line in lines)
        untried = untried + (not only_imports) if "export" in directives(cell) else 0
        assert untried <= 3, f"nothing was tried before {lines[0]!r}"


@pytest.mark.parametrize(**names(PAGES))
def test_nothing_is_imported_wholesale_or_excepted_silently(page: Path) -> None:
    for cell in code(page):
        assert not re.search(r"^\s*from \S+ import \*|^\s*except *:", cell.source, re.M), cell.id


@pytest.mark.parametrize(**names(PAGES))
def test_pictures_are_few_and_small(page: Path) -> None:
    outputs = [output for cell in code(page) for output in cell.outputs]
    found = [
        output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    sizes = [len(b64decode(picture)) / 1000 for picture in found]
    assert len(sizes) <= PICTURES and max(sizes, default=0) <= KILOBYTES, sizes


@pytest.mark.parametrize(**names(PAGES))
def test_no_page_shows_an_error_or_a_warning(page: Path) -> None:
    for cell in code(page):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source


@pytest.mark.parametrize(**names(PAGES))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    prose = [cell.source for cell in read(page).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", "\n".join(prose))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize(**names([*EXPERIMENTS, *BENCHMARKS]))
def test_an_experiment_can_be_run_with_parameters(page: Path) -> None:
    cells = code(page)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == cells[:1], "the first code cell, and only that one, has the tag"
    assert 'run_folder = ""' in tagged[0].source
    assert not any(cell.outputs for cell in cells), "the executed copy is the record"


@pytest.mark.parametrize(**names(EXPERIMENTS))
def test_an_experiment_defines_nothing(page: Path) -> None:
    # a benchmark may: what it compares with belongs nowhere else
    assert not any(re.search(r"^(def|class) ", cell.source, re.M) for cell in code(page))


@pytest.mark.parametrize(
    "file", sorted((NBS / "experiments" / "configs").glob("*.yaml")), ids=lambda file: file.stem
)
def test_a_file_of_parameters_fits_an_experiment(file: Path) -> None:
    values, problems = read_values(file), []
    for page in EXPERIMENTS:
        try:
            fit_parameters(page, values)
        except ConfigError as problem:
            problems.append(f"{page.stem}: {problem}")
    assert len(problems) < len(EXPERIMENTS), "\n".join(problems)


def test_pages_were_found() -> None:
    assert NUMBERED, "no page at all: every test above passed for nothing"
