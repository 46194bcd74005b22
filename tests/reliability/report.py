"""Tries what must survive, part by part, and writes docs/reliability.md.

    scripts/report --quick          some minutes; the page goes below target/report
    scripts/report                  hours
    scripts/report cuts kills=200   these parts alone, the second with 200 kills

A part notes how far it is after each piece of work, under target/report, and goes on from there when it is started again on the same
commit. The page is written from what the parts have noted, and of those that were not run here from docs/reliability.json, which holds
what the page shows. STENTOR_BIN names another program to be tried, STENTOR_TESTS a folder with
the test programs `actors` and `stentor` (its integration tests), so that nothing is built, and STENTOR_COMMIT what they were built of.
STENTOR_OLDER_BIN is a program of an earlier format, which the part upgrade tries on a folder of this one.
"""

import argparse
import hashlib
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


def test(package, *names, **environment):
    """Runs tests by parts of their names, so that they show what they print."""
    # what is simulated is worth an optimised build: a seed takes a fiftieth of the time
    where = ["--profile", "simulation", "--lib"] if package == "actors" else ["--test", "integration"]
    built = os.environ.get("STENTOR_TESTS")
    command = [Path(built) / package] if built else ["cargo", "test", "--locked", "--quiet", "-p", package, *where, "--"]
    command += [*names, "--nocapture", "--test-threads", "2"]
    # panics that tests ask for would fill the page with where they came from
    well, said = run(command, RUST_BACKTRACE=0, **environment)
    return well and any(int(passed) for passed in re.findall(r"test result: ok\. (\d+) passed", said)), said


def python(script, *arguments):
    # parts may run side by side
    out = ROOT / f"target/report/{os.getpid()}.json"
    out.unlink(missing_ok=True)
    well, said = run([sys.executable, "-B", HERE / script, *arguments, "--out", out])
    figures = json.loads(out.read_text()) if out.exists() else {}
    out.unlink(missing_ok=True)
    return well, said, figures


def numbers(said, pattern):
    """The numbers in all lines that look so, added up."""
    found = re.findall(pattern, said)
    rows = [row if isinstance(row, tuple) else (row,) for row in found]
    return [sum(int(row[n]) for row in rows) for n in range(len(rows[0]))] if rows else []


class Part:
    """`piece(done, seed)` does so much more work: whether it went well, what it adds to the counts, and what it said."""

    def __init__(self, name, quick, full, counted, piece):
        self.name, self.goals, self.counted, self.piece = name, {"quick": quick, "full": full}, counted, piece


def seeds_of(name, most, done, goal):
    seeds = min(most, goal - done)
    well, said = test("actors", name, STENTOR_SEEDS=seeds, STENTOR_SEEDS_FROM=done + 1)
    reached = re.search(r"^(?:test .* \.\.\. )?(\d+) seeds: \w+ (.*)$", said, re.M)
    if not well or not reached or int(reached[1]) != seeds:
        return False, {}, said
    return True, {"seeds": seeds} | {what: int(count) for what, count in re.findall(r"(\w+): (\d+)", reached[2])}, said


def simulation(done, goal):
    return seeds_of("hub::simulation::whatever_happens", 1_000, done, goal)


def store(done, goal):
    return seeds_of("journal::simulation::nothing_acknowledged", 1_000, done, goal)


def deliveries(done, goal):
    return seeds_of("delivery::simulation::no_event_is_lost", 10_000, done, goal)


def relay(done, goal):
    return seeds_of("relay::simulation::nothing_acknowledged", 10_000, done, goal)


def flips(done, goal):
    count = min(1_000, goal - done)
    # of one folder there are fifty
    well, said = test("actors", "hub::simulation::flips::one_spoilt_place", STENTOR_FLIPS=count, STENTOR_SEEDS_FROM=done // 50 + 1)
    places, whole, announced, refused = numbers(said, r"(\d+) places: (\d+) whole, (\d+) announced, (\d+) refused") or (0, 0, 0, 0)
    return well, {"places": places, "whole": whole, "announced": announced, "refused": refused}, said


def fuzz(done, goal):
    seconds = min(60, goal - done)
    well, said = test("actors", "that_nobody_meant", "that_nobody_wrote", "that_nobody_took", STENTOR_FUZZ_SECONDS=seconds)
    inputs = [int(count) for count in re.findall(r": (\d+) inputs with STENTOR_FUZZ_SEED", said)]
    return well and bool(inputs), {"seconds": seconds, "inputs": sum(inputs)}, said


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


def cluster(done, goal):
    well, said, figures = python("cluster.py", "--seconds", goal, "--seed", int(time.time()))
    kept = {name: figures.get(name) for name in ("kills", "acknowledged", "shown", "resumed", "posts", "posted_again")}
    return well, {"seconds": goal} | kept, said


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
    counts = {"rounds": 1, "tests": passed}
    if older := os.environ.get("STENTOR_OLDER_BIN"):
        well, more, _ = python("older.py", older)
        counts, said = counts | {"older_programs": 1}, said + more
    return well and passed > 0, counts, said


def soak(done, goal):
    well, said, figures = python("soak.py", "--seconds", goal)
    kept = {name: figures.get(name) for name in ("samples", "published", "read_mib")}
    return well, {"seconds": goal} | kept, said


def bites(done, goal):
    """What is taken out must be missed."""
    missed, said = 0, ""
    for name in ("hub::simulation::a_promise_that_is_taken_out", "hub::simulation::flips::a_checksum_that_nobody"):
        well, more = test("actors", name)
        missed, said = missed + len(re.findall(r"^\w+: seed Some", more, re.M)), said + more
        if not well:
            return False, {}, said
    well, more, _ = python("cuts.py", "--cuts", 8, "--without-sync")
    return well, {"rounds": 1, "taken_out": missed + 1}, said + more


PARTS = [
    Part("simulation", 250, 20_000, "seeds", simulation),
    Part("store", 250, 20_000, "seeds", store),
    Part("deliveries", 2_000, 100_000, "seeds", deliveries),
    Part("relay", 2_000, 100_000, "seeds", relay),
    Part("flips", 500, 10_000, "places", flips),
    Part("fuzz", 10, 600, "seconds", fuzz),
    Part("cuts", 40, 1_000, "cuts", cuts),
    Part("boots", 20, 120, "bits", boots),
    Part("kills", 50, 1_000, "kills", kills),
    Part("full", 12, 200, "disks", full),
    Part("stalls", 10, 200, "stalls", stalls),
    Part("cluster", 90, 600, "seconds", cluster),
    Part("clocks", 1, 1, "rounds", clocks),
    Part("upgrade", 1, 1, "rounds", upgrade),
    Part("soak", 150, 3_600, "seconds", soak),
    Part("bites", 1, 1, "rounds", bites),
]


def go_on(part, goal, notes, commit):
    """Does what is left of a part. Gives whether it holds."""
    file = notes / f"{part.name}.json"
    state = json.loads(file.read_text()) if file.exists() else {}
    if state.get("commit") != commit or (part.name == "soak" and state.get("counts", {}).get("seconds", 0) < goal):
        state = {"commit": commit, "counts": {}, "seconds": 0.0}
    # what failed is tried again, and stays on the page
    state.pop("failed", None)
    while (done := state["counts"].get(part.counted, 0)) < goal:
        began = time.monotonic()
        well, counts, said = part.piece(done, goal)
        state["seconds"] += time.monotonic() - began
        state["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        if not well:
            state["failed"] = "\n".join(said.splitlines()[-60:])
            state["failures"] = state.get("failures", 0) + 1
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


def head():
    """The commit. When something else is tried than it holds, a plus and what tells that from other changes."""
    tree = ["--", ".", ":!docs/reliability.*"]
    changed = run(["git", "status", "--porcelain", *tree])[1].strip()
    commit = run(["git", "rev-parse", "--short", "HEAD"])[1].strip()
    if not changed:
        return commit
    digest = hashlib.sha256(run(["git", "diff", "HEAD", *tree])[1].encode())
    for path in run(["git", "ls-files", "--others", "--exclude-standard", *tree])[1].splitlines():
        digest.update(path.encode() + (ROOT / path).read_bytes())
    return f"{commit}+{digest.hexdigest()[:8]}"


def machine():
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART[=COUNT]", help=", ".join(part.name for part in PARTS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    options = parser.parse_args()
    known = {part.name: part for part in PARTS}
    mode = "quick" if options.quick else "full"
    chosen = {}
    for asked in options.parts or known:
        name, _, count = asked.partition("=")
        if name not in known or not (count or "1").isdecimal():
            parser.error(f"{asked} is no part; there are {', '.join(known)}, each alone or with a count")
        chosen[known[name]] = int(count) if count else known[name].goals[mode]
    notes = ROOT / "target/report" / mode
    notes.mkdir(parents=True, exist_ok=True)
    commit = os.environ.get("STENTOR_COMMIT") or head()
    if "STENTOR_BIN" not in os.environ:
        well, said = run(["cargo", "build", "--locked", "--quiet", "--bins"])
        if not well:
            sys.exit(said)
        target = json.loads(run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"])[1])["target_directory"]
        os.environ["STENTOR_BIN"] = f"{target}/debug/stentor"
    # all of them, so that one that fails does not hide what the others find
    failed = [part.name for part, goal in chosen.items() if not go_on(part, goal, notes, commit)]
    states = {part.name: json.loads(file.read_text()) for part in PARTS if (file := notes / f"{part.name}.json").exists()}
    folder = notes if options.quick else ROOT / "docs"
    kept = folder / "reliability.json"
    if kept.exists():
        states = json.loads(kept.read_text()) | states
    states = {name: state | {"machine": state.get("machine", machine())} for name, state in states.items()}
    kept.write_text(json.dumps(states, indent=1) + "\n")
    page.write(folder, states)
    print(f"{folder / 'reliability.md'} is written")
    sys.exit(f"these parts failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
