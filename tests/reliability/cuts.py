"""Power cuts on the real binary. What it writes, syncs, renames and removes is recorded by strace while clients do everything at
once; then the disk is rebuilt as it may be after a cut at moments drawn from a seed, the server is started on it, and everything
that was acknowledged before the moment must be there.

With `--without-sync` the recording is read as if the write-ahead log were never synced: then acknowledged things must be missing,
which shows that the judgement bites.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import disk  # noqa: E402
from server import Book, Refused, Server, Work, judge  # noqa: E402


def record(folder, seed, seconds):
    """Runs a server under strace with everything under way. Gives the trace, the folder as it was before, and the book."""
    data, before, trace = folder / "data", folder / "before", folder / "trace"
    book = Book()
    # its pieces of the write-ahead log are made before, because filling them is much to write down and nothing happens
    first = Server(data)
    first.end()
    shutil.copytree(data, before)
    server = Server(data, before=disk.strace(trace))
    began = time.time()
    work = Work(server, book, seed)
    time.sleep(seconds)
    is_stopped = seed % 2 == 0
    if is_stopped:
        server.end(signal.SIGTERM)
        work.end()
    else:
        work.end()
        server.kill()
    wait_for_end(trace)
    return trace, before, book, began


def wait_for_end(trace):
    """strace ends after the program."""
    size = -1
    for _ in range(600):
        now = trace.stat().st_size
        if now == size:
            return
        size = now
        time.sleep(0.1)


def states(folder, trace, before, book, began, count, chance, without_sync):
    """(moment, folder) of so many cuts, drawn over the whole recording."""
    moments = [when for when, ended, *_ in disk.calls(trace) if ended is None]
    # more of them while there is something to lose
    later = [n for n, when in enumerate(moments) if when > began]
    at = sorted(chance.choices(range(len(moments)), k=count // 4) + chance.choices(later or [len(moments) - 1], k=count - count // 4))
    machine = disk.Disk(folder / "data", start=before)
    machine.base = os.getcwd()
    n = 0
    for call in disk.calls(trace):
        if call[1] is None:
            while at and at[0] == n:
                at.pop(0)
                state = folder / "state"
                shutil.rmtree(state, ignore_errors=True)
                machine.after_cut(state, chance)
                yield call[0], state
            n += 1
        if without_sync and call[2] == "fdatasync" and "/wal/" in call[3]:
            continue
        machine.take(*call)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--cuts-per-recording", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3, help="of each recording")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-sync", action="store_true")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--keep", type=Path, help="a folder for the states that fail")
    options = parser.parse_args()
    figures = {"cuts": 0, "recordings": 0, "acknowledged": 0, "seed": options.seed, "failures": []}
    seed = options.seed
    while figures["cuts"] < options.cuts:
        chance = random.Random(seed)
        count = min(options.cuts_per_recording, options.cuts - figures["cuts"])
        with tempfile.TemporaryDirectory(prefix="stentor-cuts-") as name:
            folder = Path(name)
            trace, before, book, began = record(folder, seed, options.seconds)
            figures["recordings"] += 1
            figures["acknowledged"] += book.acknowledged()
            for moment, state in states(folder, trace, before, book, began, count, chance, options.without_sync):
                figures["cuts"] += 1
                wrong = judge_state(state, book, moment)
                if wrong:
                    what = {"seed": seed, "moment": round(moment - began, 6), "wrong": wrong[:5]}
                    figures["failures"].append(what)
                    print(json.dumps(what))
                    if options.keep:
                        shutil.copytree(state, options.keep / f"{seed}-{figures['cuts']}", dirs_exist_ok=True)
        seed += 1
    if options.out:
        options.out.write_text(json.dumps(figures))
    failed = len(figures["failures"])
    print(f"{figures['cuts']} power cuts over {figures['recordings']} recordings with {figures['acknowledged']} events: {failed} failures")
    if options.without_sync:
        sys.exit(0 if failed else "nothing is missing without a sync, so this test does not bite")
    sys.exit(1 if failed else 0)


def judge_state(state, book, moment):
    try:
        server = Server(state)
    except Refused as refused:
        return [f"it does not start: {refused}"]
    try:
        wrong = judge(server, book, moment)
        said = [line for line in server.said if " ERROR " in line]
        return wrong + [f"the log says: {line.strip()[:300]}" for line in said[:2]]
    finally:
        server.kill()


if __name__ == "__main__":
    main()
