"""Mixed load for a long time: publishers, readers that come and go, slow readers, endpoints that answer, fail and are dead, and
retention that takes what is old. Memory, descriptors, disk and latencies must stay flat."""

import argparse
import http.server
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import Server  # noqa: E402

SAMPLES = 120
LONG_S = 600
READERS, SLOW_READERS = 20, 4
PUBLISHERS, EVENTS_PER_SECOND = 4, 25
# What may be more in the last quarter than in an earlier one. At first caches and rings fill.
MOST = {
    "rss_mib": lambda before: before * 1.15 + 12,
    "descriptors": lambda before: before + 20,
    "disk_mib": lambda before: before * 1.3 + 40,
    "p50_ms": lambda before: before * 2 + 5,
    "p99_ms": lambda before: before * 3 + 50,
}


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        failing = self.path == "/moody" and random.random() < 0.2
        self.send_response(500 if failing else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Load:
    def __init__(self, server, port):
        self.server, self.going, self.latencies, self.lock = server, True, [], threading.Lock()
        self.failures, self.published, self.read_bytes = [], 0, 0
        client = server.client()
        status, made = client.ask("POST", "/api/maps", body={"name": "soak"})
        assert status == 201, made
        self.map = made["data"]
        client.ask("PUT", f"/api/maps/{self.map['id']}/webhooks/toggle", self.map["token"], {"enabled": True})
        for url in (f"http://127.0.0.1:{port}/good", f"http://127.0.0.1:{port}/moody", "http://127.0.0.1:9/dead"):
            policy = {"policy": "constant", "delaySeconds": 1, "attempts": 5}
            status, answer = client.ask("POST", f"/api/maps/{self.map['id']}/webhooks", self.map["token"], {"url": url, "retry_policy": policy})
            assert status == 201, answer
        self.threads = [threading.Thread(target=self.publish, daemon=True) for _ in range(PUBLISHERS)]
        self.threads += [threading.Thread(target=self.read, args=[n < SLOW_READERS], daemon=True) for n in range(READERS)]
        for thread in self.threads:
            thread.start()

    def publish(self):
        client, due = self.server.client(), time.monotonic()
        while self.going:
            due += PUBLISHERS / EVENTS_PER_SECOND
            began = time.monotonic()
            body = {"type": "map_kill", "payload": {"text": "x" * random.choice([50, 500, 4000])}}
            status, answer = client.ask("POST", f"/api/maps/{self.map['id']}/events", self.map["token"], body)
            with self.lock:
                self.latencies.append((time.monotonic() - began) * 1000)
                self.published += 1
            if status != 201:
                self.failures.append(f"publishing: {status} {answer}")
            time.sleep(max(0, due - time.monotonic()))

    def read(self, is_slow):
        host, port = self.server.address.rsplit(":", 1)
        head = f"GET /api/maps/{self.map['id']}/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.map['token']}\r\n\r\n"
        while self.going:
            try:
                with socket.create_connection((host, int(port)), timeout=30) as stream:
                    stream.sendall(head.encode())
                    if not (opening := stream.recv(1 << 16)).startswith(b"HTTP/1.1 200 "):
                        raise OSError(f"a stream is refused: {opening[:200]}")
                    end = time.monotonic() + random.uniform(5, 60)
                    while self.going and time.monotonic() < end and (data := stream.recv(1 << 16)):
                        self.read_bytes += len(data)
                        time.sleep(2 if is_slow else 0)
            except OSError as e:
                if self.going:
                    self.failures.append(f"reading: {e}")
                    time.sleep(1)

    def take_latencies(self):
        with self.lock:
            taken, self.latencies = sorted(self.latencies), []
        at = lambda part: round(taken[min(len(taken) - 1, int(len(taken) * part))], 2) if taken else 0.0  # noqa: E731
        return at(0.5), at(0.99)


def sample(server, data, load, began):
    pid = server.child.pid
    status = Path(f"/proc/{pid}/status").read_text()
    rss = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    disk = sum(entry.stat().st_blocks * 512 for entry in data.rglob("*") if entry.is_file()) / (1 << 20)
    p50, p99 = load.take_latencies()
    return {
        "at_s": round(time.monotonic() - began, 1),
        "rss_mib": round(rss, 1),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "disk_mib": round(disk, 1),
        "p50_ms": p50,
        "p99_ms": p99,
    }


def judge(samples):
    """What grew from an earlier quarter to the last one: the second, or in a short run, which is still filling caches, the third."""
    quarter = len(samples) // 4
    first = quarter if samples[-1]["at_s"] >= LONG_S else 2 * quarter
    if quarter < 3:
        return [f"{len(samples)} samples are too few to judge"]
    wrong = []
    for what, most in MOST.items():
        median = lambda part: sorted(one[what] for one in part)[len(part) // 2]  # noqa: E731
        before, after = median(samples[first : first + quarter]), median(samples[-quarter:])
        if after > most(before):
            wrong.append(f"{what} grew from {before} to {after}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    receiver.daemon_threads = True
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    folder = Path(tempfile.mkdtemp(prefix="stentor-soak-"))
    try:
        data = folder / "data"
        # so that retention has something to do in a short run as well
        events = max(500, min(20_000, options.seconds * EVENTS_PER_SECOND // 8))
        server = Server(data, settings={"RETENTION__MAX_EVENTS": str(events), "LIMITS__STREAMS_PER_TOKEN": "0"})
        load, samples, began = Load(server, receiver.server_port), [], time.monotonic()
        step = max(1.0, options.seconds / SAMPLES)
        for n in range(int(options.seconds / step)):
            time.sleep(max(0, began + (n + 1) * step - time.monotonic()))
            samples.append(sample(server, data, load, began))
        load.going = False
        code = server.end(signal.SIGTERM)
        failures = judge(samples) + load.failures[:10] + ([f"the server ended with {code}"] if code else [])
        failures += [line.strip() for line in server.said if " ERROR " in line][:5]
        figures = {"seconds": options.seconds, "published": load.published, "read_mib": load.read_bytes >> 20, "samples": samples, "failures": failures}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.out:
        options.out.write_text(json.dumps(figures))
    print(f"{options.seconds} s, {figures['published']} events, {figures['read_mib']} MiB read: {samples[-1]}")
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
