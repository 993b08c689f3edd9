"""Pages of the site that lie outside of docs/, or that follow from the packages.

README.md is the first page, and links that lead from one page to another on GitHub lead there on the site.
The reference has a page for each package, with what its face offers.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from posixpath import normpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "README.md": "index.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/SECURITY.md": "security.md",
    "twin/engine/INVARIANTS.md": "invariants.md",
}
"""Pages outside of docs/, from the root of the repository, and what they are called on the site."""

PACKAGES = ("scenarios", "twin", "learn", "optimizer")

_MERMAID = re.compile(
    r'<script type="module">\s*document\.addEventListener(?:(?!</script>).)*mermaid.*?</script>', re.S
)

_PAGE = re.compile(r"""(href="[\w-]+)\.md(?=["#])""")

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, name in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_relinked(text, str(Path(source).parent))))
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=_reference(package)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links out of docs/ lead to the pages of the site."""
    return markdown if page.file.generated_by else _relinked(markdown, "docs")


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Leave out what a notebook would ask another host for, a diagram; let its links lead to pages."""
    if not page.file.src_path.endswith(".ipynb"):
        return output
    return _PAGE.sub(r"\1.html", _MERMAID.sub("", output))


def _relinked(text: str, folder: str) -> str:
    """The text of a page that lies in a folder of the repository, with its links as the site needs them."""

    def target(link: re.Match[str]) -> str:
        place = normpath(f"{folder}/{link[1]}")
        return OUTSIDE.get(place, place.removeprefix("docs/"))

    return _LINK.sub(target, text)


def _reference(package: str) -> str:
    """What a package offers: its classes, its functions, then all else."""
    face = importlib.import_module(package)
    found: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors and warnings": []}
    for name in sorted(face.__all__):
        value = getattr(face, name)
        if inspect.isclass(value):
            kind = "Errors and warnings" if issubclass(value, Exception) else "Classes"
        elif inspect.isfunction(value):
            kind = "Functions"
        else:
            continue  # a constant, or a union of types
        heading = f"    options:\n      heading: {package}.{name}"  # as users write it
        found[kind].append(f"::: {value.__module__}.{value.__qualname__}\n{heading}")
    parts = [f"# {package}\n\n{inspect.getdoc(face)}"]
    parts += [f"## {kind}\n\n" + "\n\n".join(lines) for kind, lines in found.items() if lines]
    return "\n\n".join(parts) + "\n"
