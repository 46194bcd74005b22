"""The real server as a child process, for the tests of Python clients."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ports import free_port  # noqa: E402

ADMIN = "admin-token-of-the-client-tests-0123456789"
START_TIMEOUT_S = 15


def until(what, condition, timeout_s=20):
    """Waits until the condition gives something true, looking every few milliseconds."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)
    return value


class Stentor:
    """A server on a data folder of its own; it keeps port and data over a restart."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = tempfile.mkdtemp(prefix="stentor-clients-")
        self._run()

    def _run(self):
        environment = os.environ | {
            "STENTOR_ADMIN_TOKEN": ADMIN,
            "STENTOR__STORAGE__DURABILITY": "flush",
            "STENTOR__LOG__LEVEL": "error",
        }
        self.child = subprocess.Popen(
            [os.environ["STENTOR_BIN"], "serve", "--listen", f"127.0.0.1:{self.port}", "--data", self.data],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        lines = queue.Queue()
        threading.Thread(target=lambda out: [lines.put(line) for line in out], args=[self.child.stdout], daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not lines.get(timeout=max(0.01, deadline - time.monotonic())).startswith("listening on "):
            pass

    def restart(self, number):
        self.child.send_signal(number)
        self.child.wait(START_TIMEOUT_S)
        self.child.stdout.close()
        self._run()

    def stop(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child.stdout.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def call(self, method, path, token, **more):
        headers = {"Authorization": f"Bearer {token}"} | more.pop("headers", {})
        answer = httpx.request(method, self.url + path, headers=headers, timeout=10, **more)
        answer.raise_for_status()
        return answer.json()

    def map(self, slug):
        return self.call("POST", "/api/maps", ADMIN, json={"name": slug, "slug": slug})["data"]


class Publisher(threading.Thread):
    """Publishes numbered events one after the other until it is stopped, each exactly once: an event whose answer was
    lost is sent again with its key."""

    EVENTS_MAX = 20_000

    def __init__(self, server, map):
        super().__init__(daemon=True)
        self.server, self.map, self.acknowledged, self.stopping = server, map, 0, False
        self.start()

    def run(self):
        while self.acknowledged < self.EVENTS_MAX and not self.stopping:
            until("an event is published", lambda: self._publish(self.acknowledged + 1))
            self.acknowledged += 1

    def more(self, count):
        """Waits until this many more events are acknowledged."""
        goal = self.acknowledged + count
        until(f"{goal} events are published", lambda: self.acknowledged >= goal)

    def stop(self):
        """Ends it and gives the number of the last event."""
        self.stopping = True
        self.join()
        return self.acknowledged

    def _publish(self, n):
        try:
            return self.server.call(
                "POST",
                f"/api/maps/{self.map['slug']}/events",
                self.map["token"],
                json={"type": "add_system", "payload": {"n": n}},
                headers={"Idempotency-Key": f"event-{n}"},
            )
        except httpx.TransportError:
            return None
