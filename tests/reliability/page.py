"""docs/reliability.md, made of what the parts of the report have noted."""

from pathlib import Path

HEAD = """# What survives

<!-- Made by scripts/report. Change tests/reliability/page.py, and tests/reliability/found.md for what was found. -->

Stentor promises that what it has acknowledged is there afterwards: events, channels, tokens and their revocation, webhooks, sources.
This page says how that is tried, how often it was tried, and what was found on the way. Everything on it can be repeated:

<!-- docs: shown, it takes minutes or hours -->
```sh
scripts/report --quick      # some minutes
scripts/report              # hours; goes on where it was when it is started again
scripts/report cuts kills   # these parts alone
```

## What is promised

| | with `storage.durability` |
| --- | --- |
| What was answered as stored is there after kill -9 and after a full disk | all |
| It is there after a power cut | `fsync`, the default |
| What was answered as not stored never appears. Where it is not known, the answer says so (`OUTCOME_UNKNOWN`) | all |
| A revoked token never counts again. What was deleted stays deleted | all |
| A stream gets every event once and in order, or is told of a gap | all |
| A webhook gets every event at least once; `ordered` ones in order | all |
| Damage is never silent: it is healed, or announced to readers, in readiness and by `stentor doctor`, or the start ends and names the file. One damaged place costs at most one commit, and never shows a wrong byte | all |
| Memory, descriptors and disk stay within their bounds | all |
"""

# part: (heading, how it is tried)
PARTS = {
    "simulation": (
        "The store in simulation",
        "Queue, write-ahead log, segments and documents run on a simulated disk and a clock that stands until it is moved. Requests, errors of "
        "the disk, full disks, power cuts and restarts are drawn from a seed. A power cut keeps of what was not synced what it likes, sector "
        "by sector. A model says what is right after each start. A seed that fails reproduces.",
    ),
    "cuts": (
        "Power cuts on the real program",
        "The program runs under strace, with publishers, batches, tokens made and revoked, webhooks made, changed and deleted, maps that come "
        "and go, sources with dead letters and backups under way. From its writes, syncs, renames and truncations the disk is rebuilt as it "
        "may be at a moment: all that was synced, and of the rest any part. The program is started on that, and must have everything that "
        "was acknowledged before the moment, and nothing that was asked for after it.",
    ),
    "boots": (
        "Flipped bits, by starting the program",
        "One bit of the log, of the write-ahead log (after a stop and after a kill), of what is configured and of the files beside them is "
        "flipped in a folder that the program has left. It must have everything, or announce what is lost, or refuse to start and be whole "
        "when the bit is turned back.",
    ),
    "kills": (
        "kill -9",
        "The program is killed some milliseconds after its start, again and again, with publishers, readers that resume, webhooks and "
        "changes of tokens under way.",
    ),
    "full": (
        "Full disks",
        "A small disk is filled and emptied while clients publish, and the program is killed in between.",
    ),
    "stalls": (
        "Stalls",
        "The program is stopped (SIGSTOP) for up to some seconds in the middle of everything, goes on, or is killed while it stands.",
    ),
    "clocks": ("Clocks that jump", "libfaketime sets the clock of the program by hours and by a year, ahead and back."),
    "upgrade": (
        "Folders of other versions",
        "Folders of every earlier format are migrated, also with kills in the middle; a folder of a newer format is refused and not touched.",
    ),
    "soak": (
        "Load for a long time",
        "Publishers, readers that come and go, slow readers, endpoints that answer, fail and are dead, and retention. What is measured in the "
        "last quarter must not be more than before (in a run of less than ten minutes: than in the third).",
    ),
    "bites": (
        "That these tests bite",
        "The recording of a power cut is read as if the write-ahead log were never synced. Then acknowledged things must be missing.",
    ),
}

WORDS = {"mib": "MiB", "read_mib": "MiB read"}


def figure(samples):
    """The samples of a soak as an SVG: each measure as a line of its own scale."""
    width, row, left = 720, 70, 110
    measures = [("rss_mib", "memory, MiB"), ("descriptors", "descriptors"), ("disk_mib", "disk, MiB"), ("p50_ms", "p50, ms"), ("p99_ms", "p99, ms")]
    last = samples[-1]["at_s"]
    lines = []
    for n, (name, title) in enumerate(measures):
        most = max(one[name] for one in samples) or 1
        points = " ".join(
            f"{left + (width - left - 10) * one['at_s'] / last:.1f},{(n + 1) * row - 12 - (row - 24) * one[name] / most:.1f}" for one in samples
        )
        lines.append(f'<text x="4" y="{n * row + 32}">{title}</text><text x="4" y="{n * row + 50}" fill="#888">up to {most:g}</text>')
        lines.append(f'<polyline fill="none" stroke="#3b6ea5" stroke-width="1.5" points="{points}"/>')
    height = row * len(measures)
    body = "\n".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n{body}\n</svg>\n'


def counted(counts):
    shown = [(what, count) for what, count in counts.items() if isinstance(count, int)]
    return ", ".join(f"{count:,} {WORDS.get(what, what)}" for what, count in shown)


def soak_table(samples):
    quarter = max(1, len(samples) // 4)
    is_long = samples[-1]["at_s"] >= 600
    earlier = samples[quarter : 2 * quarter] if is_long else samples[2 * quarter : 3 * quarter]
    middle = lambda part, name: sorted(one[name] for one in part)[len(part) // 2]  # noqa: E731
    names = {"rss_mib": "memory in MiB", "descriptors": "descriptors", "disk_mib": "disk in MiB", "p50_ms": "p50 of publishing in ms", "p99_ms": "p99 in ms"}
    rows = [f"| {title} | {middle(earlier, name)} | {middle(samples[-quarter:], name)} |" for name, title in names.items()]
    return "\n".join([f"| | {'second' if is_long else 'third'} quarter | last quarter |", "| --- | --- | --- |", *rows])


def write(root, states, machine):
    text = [HEAD, "## How often\n", "| | | outcome | commit | day | took |", "| --- | --- | --- | --- | --- | --- |"]
    for name, (title, _) in PARTS.items():
        if name not in states:
            text.append(f"| {title} | not yet | | | | |")
            continue
        state = states[name]
        outcome = "**failed**" if state.get("failed") else "nothing lost, undone, silent or wrong"
        if name == "bites" and not state.get("failed"):
            outcome = "every one was noticed"
        counts = {what: count for what, count in state["counts"].items() if what not in ("rounds",)}
        text.append(f"| {title} | {counted(counts)} | {outcome} | `{state['commit']}` | {state.get('date', '')} | {state['seconds'] / 60:.1f} min |")
    text.append(f"\nOn {machine}. Seeds begin at 1 and go on by one.\n")
    text.append("## How\n")
    for name, (title, how) in PARTS.items():
        text.append(f"**{title}.** {how}\n")
        samples = states.get(name, {}).get("counts", {}).get("samples") if name == "soak" else None
        if samples:
            (root / "docs/reliability.svg").write_text(figure(samples))
            text.append(soak_table(samples) + "\n\n![Memory, descriptors, disk and latencies over the time of the run](reliability.svg)\n")
    text.append("## What was found, and mended\n")
    text.append((Path(__file__).parent / "found.md").read_text())
    (root / "docs/reliability.md").write_text("\n".join(text))
