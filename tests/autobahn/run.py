"""Starts the echo server, lets the fuzzing client at it and judges its report. The argument is the Python 2.7 to run it by."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# Cases in these sections; fewer mean that the suite did not do its work.
CASES_MIN = 240
TIMEOUT_S = 200

# NON-STRICT is a choice that the protocol leaves, INFORMATIONAL a case that only looks.
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

WSTEST = "import site; site.addsitedir('.suite'); from autobahntestsuite import wstest; wstest.run()"


def fuzz(python, url, folder):
    """Gives the report of each case."""
    spec = folder / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(folder / "reports"),
                "servers": [{"agent": "stentor", "url": url}],
                "cases": CASES,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    command = [python, "-c", WSTEST, "--mode", "fuzzingclient", "--spec", str(spec)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=TIMEOUT_S)
    index = folder / "reports/index.json"
    if done.returncode or not index.exists():
        sys.exit(f"the fuzzing client ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return json.loads(index.read_text())["stentor"]


def main():
    server = subprocess.Popen([os.environ["ECHO_BIN"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().removeprefix("listening on ").strip()
        with tempfile.TemporaryDirectory(prefix="stentor-autobahn-") as folder:
            report = fuzz(sys.argv[1], url, Path(folder))
    finally:
        server.stdin.close()
        server.wait(10)
    by_number = sorted(report.items(), key=lambda case: [int(part) for part in case[0].split(".")])
    failed = [
        f"{number}: {case['behavior']}, at the close {case['behaviorClose']} ({case['remoteCloseCode']})"
        for number, case in by_number
        if not {case["behavior"], case["behaviorClose"]} <= GOOD
    ]
    print(f"{len(report)} cases: {dict(Counter(case['behavior'] for case in report.values()))}")
    for line in failed:
        print(f"FAILED  {line}")
    for number, case in by_number:
        if case["behavior"] == "NON-STRICT":
            print(f"non-strict {number}")
    if len(report) < CASES_MIN:
        sys.exit(f"only {len(report)} cases were run; {CASES_MIN} were expected")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
