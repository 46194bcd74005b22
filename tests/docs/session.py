"""One reader: a folder, a shell that keeps its state from block to block, and what runs in the background."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import Mistake, Step

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ports import free_port  # noqa: E402

# Longest that a block, or the output that a page waits for, may take.
PATIENCE_S = 30
POLL_S = 0.01
STOP_S = 12

ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|localhost|0\.0\.0\.0):(\d{4,5})\b")
# Where the server listens unless it is told otherwise.
DEFAULT_PORT = "8080"

# Runs what a reader would build, without building it again.
CARGO = """#!/usr/bin/env bash
case "$1" in
    build) exit 0 ;;
    run)
        shift
        program="$STENTOR_BIN"
        while [ $# -gt 0 ] && [ "$1" != -- ]; do
            [ "$1" = --example ] && program="$(dirname "$STENTOR_BIN")/examples/$2"
            shift
        done
        shift
        exec "$program" "$@" ;;
    *) echo "the pages of the documentation have no cargo $1" >&2; exit 1 ;;
esac
"""


class Failure(Exception):
    """A step did not do what the page promises."""


def has_ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def lives(group: int) -> bool:
    """Whether a process of the group still runs. The shell of a job may end before what it has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, of = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            if int(of) == group and state != "Z":
                return True
    return False


class Session:
    """Runs the steps of a page, and before them those of the pages that it builds on."""

    def __init__(self, binary: Path, root: Path):
        self.root = root
        self.folder = Path(tempfile.mkdtemp(prefix="stentor-docs-"))
        self.here, self.own = self.folder / "here", self.folder / "own"
        self.ports: dict[str, str] = {}
        # Jobs by name: their process, and the step that started them.
        self.jobs: dict[str, int] = {}
        self.background: dict[str, Step] = {}
        self.count = 0
        self._furnish(binary)
        self.log = (self.own / "shell.log").open("wb")
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.here,
            env=self._environment(binary),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            start_new_session=True,
            text=True,
        )
        # each background job is a group of its own, so that it can be stopped with its children
        self._say("set -m")

    def _furnish(self, binary: Path) -> None:
        bin_folder = self.own / "bin"
        bin_folder.mkdir(parents=True)
        release = self.here / "target" / "release"
        release.mkdir(parents=True)
        (release / "stentor").symlink_to(binary)
        (bin_folder / "stentor").symlink_to(binary)
        (bin_folder / "cargo").write_text(CARGO)
        (bin_folder / "cargo").chmod(0o755)
        (self.own / ".curlrc").write_text("fail-with-body\nno-progress-meter\n")
        modules = self.here / "node_modules"
        modules.mkdir()
        for module in (self.root / "tests/clients/node_modules").glob("*"):
            if module.name != "stentor-client":
                (modules / module.name).symlink_to(module)
        # as `npm install ./clients/typescript` does
        (modules / "stentor-client").symlink_to(self.root / "clients/typescript")
        for name in ("clients", "packaging", "static", "settings.toml"):
            if (self.root / name).exists():
                (self.here / name).symlink_to(self.root / name)

    def _environment(self, binary: Path) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("STENTOR_", "RUST_"))}
        address = f"127.0.0.1:{self._port(DEFAULT_PORT)}"
        python = self.root / "tests/clients/.venv/bin"
        return inherited | {
            "PATH": os.pathsep.join([str(self.own / "bin"), str(python), os.environ["PATH"]]),
            "HOME": str(self.here),
            "TMPDIR": str(self.folder),
            "CURL_HOME": str(self.own),
            "GOCACHE": os.environ.get("GOCACHE", str(Path.home() / ".cache/go-build")),
            "GOFLAGS": "-mod=mod",
            "GOPROXY": "off",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.root / "clients/python/src"),
            "PYTHONUNBUFFERED": "1",
            "no_proxy": "127.0.0.1,localhost",
            "STENTOR_BIN": str(binary),
            "STENTOR__SERVER__LISTEN": address,
            "STENTOR_SERVER": f"http://{address}",
            "STENTOR__STORAGE__DURABILITY": "flush",
        }

    # ---- ports -------------------------------------------------------------------------------------------------------

    def _port(self, shown: str) -> str:
        if shown not in self.ports:
            self.ports[shown] = str(free_port())
        return self.ports[shown]

    def learn_ports(self, steps: list[Step]) -> None:
        """A port that a page shows as an address of this machine stands for a free one, wherever the page names it."""
        for step in steps:
            for port in ADDRESS.findall(step.code + step.given):
                self._port(port)

    def _moved(self, text: str) -> str:
        known = "|".join(self.ports)
        return re.sub(rf"(?<![\d.])({known})(?!\d)", lambda found: self.ports[found[1]], text)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        code = self._moved(step.given + step.code)
        match step.verb:
            case "shown":
                return
            case "stop":
                self._stop(step)
            case "again":
                self._stop(step)
                self.take(self.background[step.name])
            case "file":
                target = self.here / step.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(code)
            case "same":
                if (self.root / step.name).read_text(encoding="utf-8").strip() != step.code.strip():
                    raise Failure(f"{step.place}: the block is not what is in {step.name}")
            case "run":
                self._run(step, code)
            case "background":
                self._background(step, code)
        for job, pattern in step.then:
            self._await_output(step, job, pattern)

    def _command(self, step: Step, code: str) -> str:
        self.count += 1
        stem = self.here / f".block-{self.count}"

        def write(suffix: str) -> Path:
            stem.with_suffix(suffix).write_text(code)
            return stem.with_suffix(suffix)

        match step.language:
            case "sh" | "bash" | "console" | "shell":
                return f". {write('.sh')}"
            case "js" | "javascript" | "mjs":
                is_module = re.search(r"^\s*import\s|\bawait\b", code, re.M) and "require(" not in code
                return f"node {write('.mjs' if is_module else '.cjs')}"
            case "python" | "py":
                return f"python3 {write('.py')}"
            case "go":
                # within a module, go passes over files with a dot before their name
                stem = stem.with_name(stem.name.removeprefix("."))
                return f"go run {write('.go')}"
        raise Mistake(f"{step.place}: nobody here runs {step.language or 'a block without a language'}")

    def _run(self, step: Step, code: str) -> None:
        command = self._command(step, code)
        output, status = self.own / f"{self.count}.out", self.own / f"{self.count}.status"
        strict = "set +e" if step.fails else "set -e"
        self._say(f"{strict}; {command} >{output} 2>&1 </dev/null; echo $? >{status}.new; mv {status}.new {status}; set +e")
        deadline = time.monotonic() + PATIENCE_S
        while not status.exists():
            if self.shell.poll() is not None:
                raise self._failure(step, "the block failed", output)
            if time.monotonic() > deadline:
                raise self._failure(step, f"the block did not end within {PATIENCE_S} s", output)
            time.sleep(POLL_S)
        if step.fails == (status.read_text().strip() == "0"):
            raise self._failure(step, "the block did not fail" if step.fails else "the block failed", output)
        said = output.read_text(errors="replace")
        for pattern in step.prints:
            if not re.search(self._moved(pattern), said):
                raise self._failure(step, f"the block does not print {pattern!r}", output)

    def _background(self, step: Step, code: str) -> None:
        # the & frees a reader's terminal; here a job is in the background anyway
        command = self._command(step, re.sub(r"\s*&\s*$", "\n", code))
        output, started = self.own / f"{step.name}.out", self.own / f"{self.count}.pid"
        output.write_text("")
        self._say(f"( {command} ) >{output} 2>&1 </dev/null & echo $! >{started}.new; mv {started}.new {started}")
        self._wait(step, f"the job {step.name} did not start", output, started.exists)
        self.jobs[step.name], self.background[step.name] = int(started.read_text()), step
        self._await_output(step, step.name, step.until)

    def _await_output(self, step: Step, job: str, pattern: str) -> None:
        output, wanted = self.own / f"{job}.out", re.compile(self._moved(pattern))
        if job not in self.jobs:
            raise Mistake(f"{step.place}: no job is called {job}")
        said = lambda: wanted.search(output.read_text(errors="replace"))
        self._wait(step, f"{job} does not print {pattern!r}", output, said, self.jobs[job])

    def _wait(self, step: Step, complaint: str, output: Path, holds, pid: int = 0) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            ended = pid and has_ended(pid)
            if ended and not holds():
                raise self._failure(step, f"{complaint} before it ended", output)
            if time.monotonic() > deadline:
                raise self._failure(step, f"{complaint} within {PATIENCE_S} s", output)
            time.sleep(POLL_S)

    def _stop(self, step: Step) -> None:
        pid = self.jobs.pop(step.name, None)
        if pid is None:
            raise Mistake(f"{step.place}: no job is called {step.name}")
        self._signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while lives(pid):
            if time.monotonic() > deadline:
                raise self._failure(step, f"{step.name} does not stop", self.own / f"{step.name}.out")
            time.sleep(POLL_S)

    # ---- the shell ---------------------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        try:
            self.shell.stdin.write(line + "\n")
            self.shell.stdin.flush()
        except BrokenPipeError:
            raise Failure("the page's shell has ended") from None

    def _failure(self, step: Step, complaint: str, output: Path) -> Failure:
        said = output.read_text(errors="replace") if output.exists() else ""
        said += (self.own / "shell.log").read_text(errors="replace")
        indented = lambda text: "".join(f"    {line}\n" for line in text.splitlines()[-30:])
        return Failure(f"{step.place}: {complaint}\n{indented(step.code)}  it printed\n{indented(said)}")

    @staticmethod
    def _signal(group: int, number: int) -> None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass  # it ended by itself

    def close(self) -> None:
        for pid in self.jobs.values():
            self._signal(pid, signal.SIGKILL)
        self._signal(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        self.log.close()
        with contextlib.suppress(BrokenPipeError):
            self.shell.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)
