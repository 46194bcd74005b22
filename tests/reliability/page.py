"""docs/reliability.md, made of what the parts of the report have noted."""

from pathlib import Path

HEAD = """# What survives

<!-- Made by scripts/report. Change tests/reliability/page.py, and tests/reliability/found.md for what was found. -->

Stentor promises that what it has acknowledged is there afterwards: events, channels, tokens and their revocation, webhooks, sources.
This page says how that is tried, how often it was tried, and what was found on the way. Everything on it can be repeated:

<!-- docs: shown, it takes minutes or hours -->
```sh
scripts/report --quick          # some minutes
scripts/report                  # hours; goes on where it was when it is started again
scripts/report cuts kills=200   # these parts alone, the second with 200 kills
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
        "Simulation of the whole engine",
        "The whole engine runs on one thread: a simulated disk, a clock that stands until it is moved, receivers that answer, fail, hang "
        "and lose answers, readers that stall, vanish and resume. Requests, errors of the disk, full disks, panics of actors, jumps of "
        "the clock, power cuts and restarts are drawn from a seed. A power cut keeps of what was not synced what it likes, sector by "
        "sector. A model of some hundred lines says what is right after each start and in the end. A seed that fails reproduces.",
    ),
    "store": (
        "Simulation of the store",
        "Queue, write-ahead log, segments, documents and upkeep alone, step by step, with more errors of the disk and more power cuts in less "
        "time.",
    ),
    "deliveries": (
        "Simulation of a webhook",
        "One webhook's deliveries alone: a receiver that fails in every way, an owner who changes and pauses it, ends of the process with only a "
        "part of the last steps done. A second model says after each step what must hold.",
    ),
    "relay": (
        "Simulation of several nodes",
        "The nodes of a cluster on one stream of NATS as it is documented: messages that are lost, late, doubled and out of order, nodes that end, "
        "stand still and come back, clocks that run apart, elections of a writer, a stream that is full. Nothing acknowledged is lost or "
        "doubled, and all nodes have the same log.",
    ),
    "flips": (
        "Bit flips and truncated files, in process",
        "One bit is flipped, or one file is cut, in the folder that a seed of the simulation has left after a stop or a kill. The engine is "
        "started on it: it has everything, or says which events are lost, or refuses to start and names the file. One bit costs at most the "
        "events of one commit.",
    ),
    "fuzz": (
        "Fuzzing",
        "JSON, events, CEL expressions, recipes of sources, WebSocket frames, archives of backups, and every record and section that is "
        "stored are changed at drawn places and read, each for so many seconds. What was once wrong is kept and tried first.",
    ),
    "cuts": (
        "Power cuts",
        "The program runs under strace, with publishers, batches, tokens made and revoked, webhooks made, changed and deleted, maps that come "
        "and go, sources with dead letters and backups under way. From its writes, syncs, renames and truncations the disk is rebuilt as it "
        "may be at a moment: all that was synced, and of the rest any part. The program is started on that, and must have everything that "
        "was acknowledged before the moment, and nothing that was asked for after it.",
    ),
    "boots": (
        "Bit flips, by starting the program",
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
        "Stalls (SIGSTOP)",
        "The program is stopped (SIGSTOP) for up to some seconds in the middle of everything, goes on, or is killed while it stands.",
    ),
    "cluster": (
        "Nodes and NATS servers that are killed",
        "Three nodes on three NATS servers, with publishers that repeat at another node what was not answered, streams that resume at another node, "
        "and webhooks. A node or a NATS server is killed every half a minute, and started again. Every acknowledged event is in the log of each "
        "node once and in order, each stream has shown exactly that log, and each webhook has got every event.",
    ),
    "clocks": ("Clocks that jump", "libfaketime sets the clock of the program by hours and by a year, ahead and back."),
    "upgrade": (
        "Folders of other versions",
        "Folders of every earlier format are migrated, also with kills in the middle; a folder of a newer format is refused and not touched. "
        "A program of an earlier format on a folder of this one says that it is too old, and changes no file.",
    ),
    "soak": (
        "Soak",
        "Publishers, readers that come and go, slow readers, endpoints that answer, fail and are dead, and retention. What is measured in the "
        "last quarter may be more than before only by a little (memory by 15 % and 12 MiB, disk by 30 % and 40 MiB, descriptors by 20, the median latency twice and 5 ms, p99 three times and 50 ms); in a run of less than ten minutes than in the third.",
    ),
    "bites": (
        "Mutants",
        "What holds a promise is taken out, and the part that tries it must fail. In the simulation: syncs that do nothing, changes of what is "
        "configured (such as revocations) that are answered before they are durable, a webhook's cursor that is ahead of what was "
        "delivered. In flipped bits: checksums of records of the write-ahead log, and of the events in them, that nobody looks at. In power cuts on the real program: a "
        "recording that is read as if the write-ahead log were never synced.",
    ),
}

OUTCOMES = {
    "fuzz": "no panic, no bound passed, nothing read wrong",
    "upgrade": "everything is there, or nothing was touched",
    "soak": "flat",
    "bites": "each was noticed",
}
WORDS = {"mib": "MiB", "read_mib": "MiB read", "posts": "deliveries", "posted_again": "deliveries repeated", "shown": "events shown by streams", "resumed": "streams resumed", "taken_out": "taken out", "older_programs": "older programs"}


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


def write(folder, states):
    text = [HEAD, "## How often\n", "| | | outcome | commit | day | took |", "| --- | --- | --- | --- | --- | --- |"]
    for name, (title, _) in PARTS.items():
        if name not in states:
            text.append(f"| {title} | not yet | | | | |")
            continue
        state = states[name]
        outcome = "**failed**" if state.get("failed") else OUTCOMES.get(name, "nothing lost, undone, silent or wrong")
        if state.get("failures") and not state.get("failed"):
            outcome += f"; {state['failures']} tries failed before, and held when they were repeated"
        counts = {what: count for what, count in state["counts"].items() if what not in ("rounds",)}
        text.append(f"| {title} | {counted(counts)} | {outcome} | `{state['commit']}` | {state.get('date', '')} | {state['seconds'] / 60:.1f} min |")
    machines = " and on ".join(dict.fromkeys(states[name]["machine"] for name in PARTS if name in states))
    text.append(f"\nOn {machines}. Seeds begin at 1 and go on by one. A plus behind a commit: with changes on top of it; what follows it tells them from others.\n")
    text.append("## How\n")
    for name, (title, how) in PARTS.items():
        text.append(f"**{title}.** {how}\n")
        samples = states.get(name, {}).get("counts", {}).get("samples") if name == "soak" else None
        if samples:
            (folder / "reliability.svg").write_text(figure(samples))
            text.append(soak_table(samples) + "\n\n`docs/reliability.svg` of the repository draws all of it over the time of the run.\n")
    text.append("## What was found, and mended\n")
    text.append((Path(__file__).parent / "found.md").read_text())
    (folder / "reliability.md").write_text("\n".join(text))
