"""Links from page to page lead somewhere."""

import re
from pathlib import Path

from page import FENCE, Mistake

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


def prose(path: Path) -> list[str]:
    """The lines of a page outside of its blocks."""
    lines, ticks = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = FENCE.match(line)
        if ticks:
            ticks = "" if line.strip().startswith(ticks) else ticks
        elif fence:
            ticks = fence["ticks"]
        else:
            lines.append(line)
    return lines


def anchor(heading: str) -> str:
    """What GitHub calls a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def check(root: Path, page: Path) -> None:
    for line in prose(root / page):
        for target in LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, fragment = target.partition("#")
            file = (root / page).parent / path if path else root / page
            if not file.exists():
                raise Mistake(f"{page}: the link {target} leads nowhere")
            if fragment and file.suffix == ".md":
                anchors = [anchor(found[1]) for found in map(HEADING.match, prose(file)) if found]
                if fragment not in anchors:
                    raise Mistake(f"{page}: {target} leads to no heading")


def check_index(root: Path, pages: list[str]) -> None:
    """Every page of the documentation is in its index."""
    index = root / "docs/README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for line in prose(index) for target in LINK.findall(line)}
    for page in pages:
        path = (root / page).resolve()
        if path.is_relative_to(index.parent) and path != index and path not in linked:
            raise Mistake(f"docs/README.md does not lead to {page}")
