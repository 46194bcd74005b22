"""httpx-sse and websockets, as Python bots use them, against the real server."""

import gzip
import json
import signal
import threading
import time
import unittest

import httpx
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from stentor import Publisher, Stentor, until


class Reader(threading.Thread):
    """Reads a map from its cursor, and comes back with it, until the last event is there."""

    def __init__(self, server, map):
        super().__init__(daemon=True)
        self.server, self.map = server, map
        self.events, self.connected, self.cursor = [], 0, ""
        self.deadline = time.monotonic() + 40
        self.start()

    def run(self):
        while not self.complete() and time.monotonic() < self.deadline:
            try:
                self.read({"Authorization": f"Bearer {self.map['token']}"})
            except (httpx.TransportError, ConnectionClosed, InvalidHandshake, OSError, EOFError):
                time.sleep(0.05)

    def complete(self):
        return bool(self.events) and json.loads(self.events[-1])["type"] == "last"

    def take(self, identity, data):
        self.events.append(data)
        self.cursor = identity


class SseReader(Reader):
    def read(self, headers):
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        url = f"{self.server.url}/api/maps/{self.map['slug']}/events/stream"
        with httpx.Client(timeout=10) as client, connect_sse(client, "GET", url, headers=headers) as source:
            source.response.raise_for_status()
            for event in source.iter_sse():
                if event.event == "connected":
                    self.connected += 1
                elif event.event == "message":
                    self.take(event.id, event.data)
                if self.complete():
                    return


class WebSocketReader(Reader):
    def read(self, headers):
        url = f"ws://127.0.0.1:{self.server.port}/api/maps/{self.map['slug']}/events/ws?since={self.cursor}"
        with connect(url, additional_headers=headers, open_timeout=10) as connection:
            while not self.complete():
                text = connection.recv(timeout=10)
                frame = json.loads(text)
                if "id" in frame:
                    self.take(frame["id"], text)
                elif frame["event"] == "connected":
                    self.connected += 1


class Streams(unittest.TestCase):
    def test_no_event_is_lost_or_repeated_when_the_server_is_killed_and_when_it_is_stopped(self):
        server = Stentor()
        self.addCleanup(server.stop)
        map = server.map("restart")
        readers = [SseReader(server, map), WebSocketReader(server, map)]
        until("all are connected", lambda: all(reader.connected for reader in readers))
        publisher = Publisher(server, map)
        for times, number in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL], start=2):
            publisher.more(20)
            server.restart(number)
            until("all are connected again", lambda: all(reader.connected >= times for reader in readers))
        total = publisher.stop()
        server.call("POST", "/api/maps/restart/events", map["token"], json={"type": "last", "payload": {"n": total + 1}})
        until("all readers are done", lambda: not any(reader.is_alive() for reader in readers), 40)
        headers = {"Authorization": f"Bearer {map['token']}", "Accept": "application/x-ndjson"}
        stored = httpx.get(f"{server.url}/api/maps/restart/events", headers=headers).text.rstrip("\n").split("\n")
        self.assertEqual([json.loads(text)["payload"]["n"] for text in stored], list(range(1, total + 2)))
        for reader in readers:
            self.assertEqual(reader.events, stored, type(reader).__name__)

    def test_httpx_and_websockets_are_answered_as_they_ask(self):
        server = Stentor()
        self.addCleanup(server.stop)
        map = server.map("asks")
        headers = {"Authorization": f"Bearer {map['token']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=10) as client:
            events = "/api/maps/asks/events"
            body = "\ufeff" + json.dumps([{"type": "add_system", "payload": {"wei": 2**200}}, {"type": "map_kill"}])
            packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            made = client.post(events, content=gzip.compress(body.encode()), headers=packed)
            self.assertEqual(made.status_code, 201, made.text)
            page = client.get(events, params={"events[]": ["add_system"]}).json()
            self.assertEqual([event["payload"] for event in page["data"]], [{"wei": 2**200}])
            for path in ["/health/ready", "/docs", events, f"{events}/stream", "/asyncapi.json"]:
                head = client.head(path)
                self.assertEqual((head.status_code, head.content), (200, b""), path)
            self.assertEqual(client.head(f"{events}/ws").status_code, 426)
        url = f"ws://127.0.0.1:{server.port}/api/maps/asks/events/ws"
        with connect(url, additional_headers=headers, subprotocols=["json", "stentor.v1"]) as connection:
            self.assertEqual(connection.subprotocol, "stentor.v1")


if __name__ == "__main__":
    unittest.main()
