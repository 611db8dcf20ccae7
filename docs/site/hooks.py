"""What the site has besides docs/: files of the repository that its pages link to, and Sphinx's roles.

A file's place on the site is its place in the repository, without ``docs``: ``docs/physics.md`` is
``physics.md`` there, ``benchmarks/README.md`` keeps its name. So one rule rewrites links, and the same
page reads well in the repository too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/*.py",
           "benchmarks/figures/*.png")  # fmt: skip
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):<code>~?([\w.]+)</code>")


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between places in the repository into links between places on the site."""
    uri = page.file.src_uri
    folder = posixpath.dirname(uri if (ROOT / uri).is_file() else f"docs/{uri}")

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2])).removeprefix("docs/")
        return link[1] + posixpath.relpath(target, posixpath.dirname(uri) or ".")

    return LINK.sub(on_the_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Make links of the roles in docstrings, where what they name is on the site."""

    def reference(role: re.Match[str]) -> str:
        name = role[1]
        return f'<autoref identifier="{name}" optional><code>{name.rpartition(".")[2]}</code></autoref>'

    return ROLE.sub(reference, html)
