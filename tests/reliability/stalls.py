"""SIGSTOP in the middle of everything: the server stands still for up to some seconds, as a virtual machine does that is moved, goes
on, and is sometimes killed while it stands. Everything that was acknowledged must be there, and nothing else."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import Book, Server, Work, judge  # noqa: E402

ROUNDS_OF_SERVER = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longest-s", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    figures = {"stalls": 0, "kills": 0, "acknowledged": 0, "seed": options.seed, "failures": []}
    with tempfile.TemporaryDirectory(prefix="stentor-stalls-") as name:
        data, book, server = Path(name) / "data", Book(), None
        while figures["stalls"] < options.rounds:
            server = Server(data)
            work = Work(server, book, figures["stalls"])
            is_killed = False
            for _ in range(min(ROUNDS_OF_SERVER, options.rounds - figures["stalls"])):
                time.sleep(chance.uniform(0.05, 0.5))
                server.child.send_signal(signal.SIGSTOP)
                time.sleep(chance.uniform(0.05, options.longest_s))
                figures["stalls"] += 1
                if chance.random() < 0.2:
                    is_killed = True
                    break
                server.child.send_signal(signal.SIGCONT)
                time.sleep(chance.uniform(0.05, 0.5))
            if is_killed:
                figures["kills"] += 1
                server.kill()
                work.end()
            else:
                work.end()
                server.end()
            server = Server(data)
            figures["failures"] += judge(server, book)
            server.kill()
        figures["acknowledged"] = book.acknowledged()
    if options.out:
        options.out.write_text(json.dumps(figures))
    print(f"{figures['stalls']} stalls, {figures['kills']} of them with a kill, {figures['acknowledged']} events: {len(figures['failures'])} failures")
    for failure in figures["failures"][:20]:
        print(failure)
    sys.exit(1 if figures["failures"] else 0)


if __name__ == "__main__":
    main()
