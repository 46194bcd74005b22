"""Runs every block of README.md, docs/ and the clients' pages as a reader would, against the binary in STENTOR_BIN. Names of pages as arguments
run only those."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import links
import page as pages
from page import Mistake
from session import Failure, Session

ROOT = Path(__file__).resolve().parents[2]
LOCK = threading.Lock()


def load(root: Path, name: str) -> pages.Page:
    return pages.read(root / name, Path(name))


def steps_before(root: Path, page: pages.Page, seen: tuple[str, ...] = ()) -> list[pages.Step]:
    """What a reader has done before this page."""
    if not page.after:
        return []
    if page.after in seen:
        raise Mistake(f"{page.path}: pages that build on each other in a circle")
    before = load(root, page.after)
    return steps_before(root, before, (*seen, page.after)) + before.steps


def run(root: Path, name: str, binary: Path) -> str | None:
    """Runs one page; returns what is wrong with it."""
    began = time.monotonic()
    session = None
    try:
        page = load(root, name)
        links.check(root, page.path)
        if page.runs == 0:
            return None
        steps = steps_before(root, page) + page.steps
        with LOCK:
            session = Session(binary, root)
            session.learn_ports(steps)
        for step in steps:
            session.take(step)
        print(f"ok      {name}: {page.runs} blocks in {time.monotonic() - began:.1f} s", flush=True)
        return None
    except (Mistake, Failure) as e:
        print(f"FAILED  {name}", flush=True)
        return str(e)
    finally:
        if session:
            session.close()


def main() -> int:
    binary = Path(os.environ["STENTOR_BIN"]).resolve()
    found = sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("clients/*/README.md")])
    names = sys.argv[1:] or ["README.md", "clients/README.md", *found]
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        complaints = [said for said in pool.map(lambda name: run(ROOT, name, binary), names) if said]
    if not sys.argv[1:]:
        try:
            links.check_index(ROOT, names)
        except Mistake as e:
            complaints.append(str(e))
    for complaint in complaints:
        print(f"\n{complaint}")
    print(f"pages: {len(names) - min(len(complaints), len(names))} passed, {len(complaints)} failed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
