"""A program of an earlier format on a folder of this one: it must end and say why, change no file, and leave everything to this one."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import ADMIN, Book, Server, Work, judge  # noqa: E402


def listing(data):
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("older", help="the program of an earlier format")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="stentor-older-") as name:
        data, book = Path(name) / "data", Book()
        server = Server(data)
        work = Work(server, book, 1)
        time.sleep(2)
        work.end()
        server.end()
        before = listing(data)
        command = [options.older, "serve", "--listen", "127.0.0.1:0", "--data", str(data)]
        ended = subprocess.run(command, env=os.environ | {"STENTOR_ADMIN_TOKEN": ADMIN}, capture_output=True, text=True, timeout=60)
        said = ended.stdout + ended.stderr
        wrong += [] if ended.returncode == 1 else [f"it ended with {ended.returncode}"]
        wrong += [] if "has format" in said and "newer version" in said else [f"it does not say why: {said}"]
        after = listing(data)
        wrong += [f"{path} was changed" for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
        server = Server(data)
        wrong += judge(server, book)
        server.kill()
    if options.out:
        options.out.write_text(json.dumps({"failures": wrong, "acknowledged": book.acknowledged()}))
    print(f"the older program said: {said.strip().splitlines()[-2:]}")
    for what in wrong[:20]:
        print(what)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
