"""Make README.md from nbs/index.ipynb, without Quarto: `make readme`.

Cells with a directive are handled as nbdev does: `#| hide` leaves a cell out, `#| echo: false` leaves its code out.
"""

import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parents[1]
PICTURES = "index_files"  # folder beside the notebook


def shown(cell: NotebookNode) -> bool:
    "Whether a reader of the README sees the cell."
    return cell.cell_type != "raw" and not re.search(r"^#\| *hide\b", cell.source, re.M)


def readme(notebook: Path) -> tuple[str, dict[str, bytes]]:
    "The text of README.md, and its pictures by their path from the checkout."
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata.setdefault("language_info", {"name": "python"})  # nbdev_clean drops it
    nb.cells = [cell for cell in nb.cells if shown(cell)]
    for number, cell in enumerate(nb.cells):
        silent = re.search(r"^#\| *echo: *false", cell.source, re.M)
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
        cell.metadata["transient"] = {"remove_source": bool(silent)}
        cell.id = f"cell-{number}"
    folder = f"{notebook.parent.name}/{PICTURES}"
    resources = dict(output_files_dir=folder, unique_key="index")
    text, made = MarkdownExporter().from_notebook_node(nb, resources=resources)
    # a page that stands beside the index stands in nbs/ when seen from the README
    text = re.sub(r"\]\((?!\w+:|#|/)([^)]+\.ipynb)", rf"]({notebook.parent.name}/\1", text)
    text = re.sub(r"\]\(\.\./", "](", text)
    text = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", made.get("outputs") or {}


def main() -> None:
    "Write README.md and its pictures."
    text, pictures = readme(HERE / "nbs" / "index.ipynb")
    (HERE / "README.md").write_text(text, encoding="utf-8")
    for name, content in pictures.items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
