"""A page of the documentation as the steps that a reader would take. CONTRIBUTING.md explains the comments that steer it."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

# Run by the page's shell unless the page says otherwise.
SHELL = {"sh", "bash"}
# Blocks in these languages must say what becomes of them.
RUNNABLE = SHELL | {"console", "shell", "js", "javascript", "mjs", "ts", "typescript", "python", "py", "go", "rust"}

FENCE = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)(?P<rest>.*)$")
COMMENT = re.compile(r"^\s*<!-- docs: (?P<text>.*?) -->\s*$")


class Mistake(Exception):
    """The page says something that cannot be followed."""


@dataclass
class Step:
    """A block of code and what is to be done with it, or a bare instruction between blocks."""

    page: Path
    line: int
    language: str = ""
    code: str = ""
    # run, background, file, same, shown, stop, again
    verb: str = "shown"
    # Of the background job, the file to write, or the file that the block repeats.
    name: str = ""
    # Code to put before the block.
    given: str = ""
    # What the background job prints when it is ready.
    until: str = ""
    # What the block prints.
    prints: list[str] = field(default_factory=list)
    # What background jobs print after the block has run: (job, pattern).
    then: list[tuple[str, str]] = field(default_factory=list)
    fails: bool = False

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass
class Page:
    path: Path
    steps: list[Step]
    # The page whose steps come before those of this one.
    after: str = ""

    @property
    def runs(self) -> int:
        return sum(step.verb in ("run", "background", "file", "same") for step in self.steps)


def read(path: Path, shown: Path) -> Page:
    """Reads a page; `shown` is its name in messages."""
    page = Page(shown, [])
    lines = path.read_text(encoding="utf-8").splitlines()
    pending: list[tuple[int, str]] = []
    at = 0
    while at < len(lines):
        comment, fence = COMMENT.match(lines[at]), FENCE.match(lines[at])
        if comment and comment["text"].startswith("after ") and not page.steps:
            page.after = comment["text"].removeprefix("after ").strip()
        elif comment and (told := re.fullmatch(r"(stop|again) (\w+)", comment["text"])):
            page.steps.append(Step(shown, at + 1, verb=told[1], name=told[2]))
        elif comment:
            pending.append((at + 1, comment["text"]))
        elif fence:
            begin = at
            end = re.compile(rf"^ {{0,3}}{fence['ticks'][0]}{{{len(fence['ticks'])},}}\s*$")
            at += 1
            while at < len(lines) and not end.match(lines[at]):
                at += 1
            if at == len(lines):
                raise Mistake(f"{shown}:{begin + 1}: the block does not end")
            indent = len(fence["indent"])
            code = "\n".join(line[min(indent, len(line) - len(line.lstrip())) :] for line in lines[begin + 1 : at])
            page.steps.append(_block(shown, begin + 1, fence["language"].lower(), code + "\n", pending))
            pending = []
        else:
            _loose(page, pending)
            pending = []
        at += 1
    _loose(page, pending)
    return page


def _block(page: Path, line: int, language: str, code: str, comments: list[tuple[int, str]]) -> Step:
    step = Step(page, line, language, code, verb="")
    for _, text in comments:
        _instruct(step, text)
    if not step.verb:
        speaks = step.given or step.until or step.prints or step.then or step.fails
        if language in SHELL or speaks:
            step.verb = "run"
        elif language in RUNNABLE:
            raise Mistake(
                f"{step.place}: a block of {language} that is neither run nor marked; "
                "put a comment such as <!-- docs: run --> or <!-- docs: shown, WHY --> above it"
            )
        else:
            step.verb = "shown"
    if step.verb == "background" and not step.until:
        raise Mistake(f"{step.place}: a background job says until which output the page waits")
    return step


def _instruct(step: Step, text: str) -> None:
    """Takes one comment above a block to heart."""
    if text.startswith("shown"):
        if len(text.removeprefix("shown").strip(" ,")) < 5:
            raise Mistake(f"{step.place}: a block that is only shown says why: <!-- docs: shown, WHY -->")
        step.verb = "shown"
        return
    words = shlex.split(text)

    def take(what: str) -> str:
        if not words:
            raise Mistake(f"{step.place}: <!-- docs: {text} --> lacks {what}")
        return words.pop(0)

    while words:
        match word := take("a word"):
            case "run":
                step.verb = word
            case "background" | "file":
                step.verb, step.name = word, take("a name")
            case "same":
                step.verb, step.name = word, take("the name of a file")
            case "given":
                step.given += take("the code") + "\n"
            case "until":
                step.until = take("a pattern")
            case "prints":
                step.prints.append(take("a pattern"))
            case "then":
                job = take("the name of a job")
                if take("the word prints") != "prints":
                    raise Mistake(f"{step.place}: it is: then JOB prints PATTERN")
                step.then.append((job, take("a pattern")))
            case "fails":
                step.fails = True
            case _:
                raise Mistake(f"{step.place}: <!-- docs: {text} --> says {word}, which nobody knows")


def _loose(page: Page, comments: list[tuple[int, str]]) -> None:
    """Comments that stand above no block."""
    for line, text in comments:
        raise Mistake(f"{page.path}:{line}: <!-- docs: {text} --> stands above no block")
