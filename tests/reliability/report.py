"""Tries what must survive, part by part, and writes docs/reliability.md.

    scripts/report --quick          some minutes
    scripts/report                  hours
    scripts/report cuts kills       these parts alone

A part notes how far it is after each piece of work, under target/report, and goes on from there when it is started again on the same
commit. The page is written from what the parts have noted. STENTOR_BIN names another program to be tried, and STENTOR_COMMIT what it
was built of.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import page  # noqa: E402


def run(command, **environment):
    """Runs a command. Gives whether it went well, and what it said."""
    full = os.environ | {name: str(value) for name, value in environment.items()}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=full, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def test(package, name, **environment):
    """Runs tests by a part of their name, so that they show what they print."""
    where = ["--lib"] if package == "actors" else ["--test", "integration"]
    command = ["cargo", "test", "--locked", "--quiet", "-p", package, *where, "--", name, "--nocapture", "--test-threads", "2"]
    well, said = run(command, **environment)
    return well and any(int(passed) for passed in re.findall(r"test result: ok\. (\d+) passed", said)), said


def python(script, *arguments):
    out = ROOT / "target/report/piece.json"
    out.unlink(missing_ok=True)
    well, said = run([sys.executable, "-B", HERE / script, *arguments, "--out", out])
    return well, said, json.loads(out.read_text()) if out.exists() else {}


def numbers(said, pattern):
    """The numbers in all lines that look so, added up."""
    found = re.findall(pattern, said)
    rows = [row if isinstance(row, tuple) else (row,) for row in found]
    return [sum(int(row[n]) for row in rows) for n in range(len(rows[0]))] if rows else []


class Part:
    """`piece(done, seed)` does so much more work: whether it went well, what it adds to the counts, and what it said."""

    def __init__(self, name, quick, full, counted, piece):
        self.name, self.goals, self.counted, self.piece = name, {"quick": quick, "full": full}, counted, piece


def simulation(done, goal):
    well, said = test("actors", "journal::simulation::nothing_acknowledged", STENTOR_SEEDS=goal)
    return well, {"seeds": goal}, said


def cuts(done, goal):
    count = min(40, goal - done)
    well, said, figures = python("cuts.py", "--cuts", count, "--seed", done + 1)
    return well, {"cuts": count, "recordings": figures.get("recordings", 0), "acknowledged": figures.get("acknowledged", 0)}, said


def boots(done, goal):
    well, said = test("stentor", "bad_days::damage::a_flipped_bit", STENTOR_FLIPS=min(40, max(4, (goal - done) // 5)), STENTOR_TEST_SEED=done + 1)
    bits, refused, announced = numbers(said, r"(\d+) bits: (\d+) refused, (\d+) announced") or (0, 0, 0)
    return well, {"bits": bits, "refused": refused, "announced": announced}, said


def kills(done, goal):
    count = min(100, goal - done)
    well, said = test("stentor", "bad_days::kill", STENTOR_KILLS=count, STENTOR_TEST_SEED=done + 1)
    acknowledged, *_ = numbers(said, r"kills: (\d+) events acknowledged") or (0,)
    return well, {"kills": count, "acknowledged": acknowledged}, said


def full(done, goal):
    count = min(24, goal - done)
    well, said = test("stentor", "over_full_disks_and_kills", STENTOR_FULL_DISKS=count, STENTOR_TEST_SEED=done + 1)
    return well, {"disks": count}, said


def stalls(done, goal):
    count = min(20, goal - done)
    well, said, figures = python("stalls.py", "--rounds", count, "--seed", done + 1)
    return well, {"stalls": count, "kills": figures.get("kills", 0), "acknowledged": figures.get("acknowledged", 0)}, said


def clocks(done, goal):
    well, said = test("stentor", "bad_days::clock")
    passed, *_ = numbers(said, r"test result: ok\. (\d+) passed") or (0,)
    return well and passed > 0, {"rounds": 1, "tests": passed}, said


def upgrade(done, goal):
    passed, said = 0, ""
    for name in ("bad_days::migration", "bad_days::layout"):
        well, more = test("stentor", name)
        passed, said = passed + (numbers(more, r"test result: ok\. (\d+) passed") or [0])[0], said + more
        if not well:
            return False, {}, said
    return passed > 0, {"rounds": 1, "tests": passed}, said


def soak(done, goal):
    well, said, figures = python("soak.py", "--seconds", goal)
    kept = {name: figures.get(name) for name in ("samples", "published", "read_mib")}
    return well, {"seconds": goal} | kept, said


def bites(done, goal):
    """What is taken out must be missed."""
    well, said, _ = python("cuts.py", "--cuts", 8, "--without-sync")
    return well, {"rounds": 1, "missed": 1}, said


PARTS = [
    Part("simulation", 250, 20_000, "seeds", simulation),
    Part("cuts", 40, 1_000, "cuts", cuts),
    Part("boots", 20, 120, "bits", boots),
    Part("kills", 50, 1_000, "kills", kills),
    Part("full", 12, 200, "disks", full),
    Part("stalls", 10, 200, "stalls", stalls),
    Part("clocks", 1, 1, "rounds", clocks),
    Part("upgrade", 1, 1, "rounds", upgrade),
    Part("soak", 150, 3_600, "seconds", soak),
    Part("bites", 1, 1, "rounds", bites),
]


def go_on(part, mode, notes, commit):
    """Does what is left of a part. Gives whether it holds."""
    file = notes / f"{part.name}.json"
    state = json.loads(file.read_text()) if file.exists() else {}
    goal = part.goals[mode]
    if state.get("commit") != commit or state.get("failed") or (part.name == "soak" and state.get("counts", {}).get("seconds", 0) < goal):
        state = {"commit": commit, "counts": {}, "seconds": 0.0}
    while (done := state["counts"].get(part.counted, 0)) < goal:
        began = time.monotonic()
        well, counts, said = part.piece(done, goal)
        state["seconds"] += time.monotonic() - began
        state["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        if not well:
            state["failed"] = "\n".join(said.splitlines()[-60:])
            file.write_text(json.dumps(state))
            print(f"{part.name}: FAILED after {done} {part.counted}\n{state['failed']}")
            return False
        if not counts.get(part.counted):
            raise SystemExit(f"{part.name} has done nothing:\n{said[-3000:]}")
        for what, count in counts.items():
            is_sum = isinstance(count, int) and not isinstance(count, bool)
            state["counts"][what] = state["counts"].get(what, 0) + count if is_sum else count
        file.write_text(json.dumps(state))
        print(f"{part.name}: {state['counts'][part.counted]} of {goal} {part.counted}, {state['seconds']:.0f} s", flush=True)
    return True


def machine():
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(part.name for part in PARTS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    options = parser.parse_args()
    known = {part.name: part for part in PARTS}
    if unknown := [name for name in options.parts if name not in known]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.parts] or PARTS
    mode = "quick" if options.quick else "full"
    notes = ROOT / "target/report" / mode
    notes.mkdir(parents=True, exist_ok=True)
    commit = os.environ.get("STENTOR_COMMIT") or run(["git", "rev-parse", "--short", "HEAD"])[1].strip()
    if "STENTOR_BIN" not in os.environ:
        well, said = run(["cargo", "build", "--locked", "--quiet", "--bins"])
        if not well:
            sys.exit(said)
        target = json.loads(run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"])[1])["target_directory"]
        os.environ["STENTOR_BIN"] = f"{target}/debug/stentor"
    # all of them, so that one that fails does not hide what the others find
    failed = [part.name for part in chosen if not go_on(part, mode, notes, commit)]
    states = {part.name: json.loads(file.read_text()) for part in PARTS if (file := notes / f"{part.name}.json").exists()}
    page.write(ROOT, states, machine())
    sys.exit(f"these parts failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
