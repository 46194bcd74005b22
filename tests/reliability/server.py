"""The real server as a child process, and what is known of everything that clients have asked of it.

Every request is noted with when it was sent and when its answer came, so that for any moment it can be told what must be there,
what may be there, and what must not.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time

ADMIN = "the-admin-token-of-the-reliability-tests"
START_TIMEOUT_S = 60
SETTINGS = {
    "STORAGE__SEGMENT_MAX_BYTES": "1048576",
    "RETENTION__MAX_AGE_S": "0",
    "RETENTION__MAX_EVENTS": "0",
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOW_NETWORKS": "127.0.0.1",
    "LIMITS__API_REQUESTS_PER_MINUTE": "0",
    "LIMITS__FAILED_LOGINS_PER_MINUTE": "0",
    "LIMITS__TOKENS_PER_CHANNEL": "100000",
    "LOG__LEVEL": "warn",
}


class Refused(Exception):
    """The server ended before it listened; the text is what it said."""


class Server:
    """A server on a data folder. `before` comes before its command, such as strace; `settings` on top of the usual ones."""

    def __init__(self, data, before=(), settings=None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("STENTOR", "RUST"))}
        environment |= {f"STENTOR__{name}": value for name, value in (SETTINGS | (settings or {})).items()}
        environment["STENTOR_ADMIN_TOKEN"] = ADMIN
        command = [*before, os.environ["STENTOR_BIN"], "serve", "--listen", "127.0.0.1:0", "--data", str(data)]
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=environment)
        self.said = []
        threading.Thread(target=self._hear, daemon=True).start()
        self.address = None
        deadline = time.monotonic() + START_TIMEOUT_S
        for line in self.child.stdout:
            if line.startswith("listening on "):
                self.address = line.rsplit("/", 1)[1].strip()
                break
        if self.address is None or time.monotonic() > deadline:
            self.child.kill()
            self.child.wait()
            raise Refused("".join(self.said) or "it ended without a word")

    def _hear(self):
        for line in self.child.stderr:
            self.said.append(line)

    def client(self):
        return Client(self.address)

    def end(self, number=signal.SIGTERM):
        """Ends it; gives its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(60)
        finally:
            if self.child.poll() is None:
                self.child.kill()
            self.child.stdout.close()

    def kill(self):
        return self.end(signal.SIGKILL)


class Client:
    """One connection. A request gives its status and the JSON of its answer; `None` when no answer came."""

    def __init__(self, address):
        self.address = address
        self.connection = None

    def ask(self, method, target, token=ADMIN, body=None, timeout_s=60):
        status, answer = self.raw(method, target, token, body, timeout_s=timeout_s)
        try:
            return status, json.loads(answer) if answer else None
        except ValueError:
            return status, None

    def raw(self, method, target, token=ADMIN, body=None, headers=None, timeout_s=60):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.address, timeout=timeout_s)
        sent = {"Authorization": f"Bearer {token}"} | (headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            self.connection.request(method, target, body=body, headers=sent)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return None, b""


class Thing:
    """Something that is made and may be unmade: when each was asked for, and when it was acknowledged."""

    def __init__(self, **known):
        self.made = self.asked = self.ended = self.end_asked = None
        self.refused = False
        self.__dict__.update(known)

    def must_be(self, at):
        return self.made is not None and self.made <= at and not (self.end_asked is not None and self.end_asked <= at)

    def must_not_be(self, at):
        never = self.asked is None or self.asked > at or self.refused
        return never or (self.ended is not None and self.ended <= at)


class Book:
    """All that clients have asked for."""

    def __init__(self):
        self.lock = threading.Lock()
        self.maps, self.tokens, self.hooks, self.events = [], [], [], []
        self.number = 0

    def add(self, to, **known):
        thing = Thing(asked=time.time(), **known)
        with self.lock:
            to.append(thing)
        return thing

    def numbers(self, count):
        with self.lock:
            self.number += count
            return list(range(self.number - count, self.number))

    def acknowledged(self, at=float("inf")):
        return sum(len(event.numbers) for event in self.events if event.made is not None and event.made <= at)


class Work:
    """Everything that clients do at once, until it is told to end."""

    def __init__(self, server, book, seed):
        self.server, self.book, self.going = server, book, True
        self.client = server.client()
        if not book.maps:
            for name in ("one", "two", "three"):
                self.make_map(self.client, name)
        self.threads = [
            threading.Thread(target=self._loop, args=[what, random.Random(f"{seed} {n}")], daemon=True)
            for n, what in enumerate([self.publish, self.publish, self.publish, self.tokens, self.hooks, self.others])
        ]
        for thread in self.threads:
            thread.start()

    def _loop(self, what, chance):
        client = self.server.client()
        while self.going:
            if what(client, chance) is False:
                return

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join(60)

    def live_maps(self):
        return [one for one in self.book.maps if one.made and not one.end_asked]

    def make_map(self, client, name):
        one = self.book.add(self.book.maps, name=name)
        status, answer = client.ask("POST", "/api/maps", body={"name": name})
        if status == 201:
            one.id, one.token, one.made = answer["data"]["id"], answer["data"]["token"], time.time()
            client.ask("PUT", f"/api/maps/{one.id}/webhooks/toggle", one.token, {"enabled": True})
        elif status is not None:
            one.refused = True
        return one

    def publish(self, client, chance):
        one = chance.choice(self.live_maps()[:3])
        numbers = self.book.numbers(1 if chance.random() < 0.6 else chance.randrange(2, 30))
        text = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=chance.choice([10, 200, 3000])))
        batch = [{"type": "add_system", "payload": {"n": n, "text": text}} for n in numbers]
        event = self.book.add(self.book.events, map=one, numbers=numbers, ids=None)
        status, answer = client.ask("POST", f"/api/maps/{one.id}/events", one.token, {"events": batch})
        if status == 201:
            event.ids, event.made = answer["data"]["ids"], time.time()
        elif status is not None and "UNKNOWN" not in json.dumps(answer):
            event.refused = True
        return status is not None

    def tokens(self, client, chance):
        one = chance.choice(self.live_maps()[:3])
        token = self.book.add(self.book.tokens, map=one, id=None, token=None)
        body = {"channel": f"map:{one.id}", "scopes": ["subscribe"], "name": "one of many"}
        status, answer = client.ask("POST", "/api/v1/tokens", body=body)
        if status == 201:
            token.id, token.token, token.made = answer["data"]["id"], answer["data"]["token"], time.time()
        elif status is not None:
            token.refused = True
        known = [other for other in self.book.tokens if other.made and not other.end_asked]
        if known and chance.random() < 0.6:
            token = chance.choice(known)
            token.end_asked = time.time()
            if client.ask("DELETE", f"/api/v1/tokens/{token.id}")[0] == 204:
                token.ended = time.time()
        return status is not None

    def hooks(self, client, chance):
        known = [hook for hook in self.book.hooks if hook.made and not hook.end_asked]
        if len(known) < 3:
            one = chance.choice(self.live_maps()[:3])
            url = f"http://127.0.0.1:9/{len(self.book.hooks)}"
            hook = self.book.add(self.book.hooks, map=one, id=None, urls=[(0, url)], changing=None)
            # nobody listens there, so its deliveries are in trouble, whose state is stored
            body = {"url": url, "retry_policy": {"policy": "constant", "delaySeconds": 1, "attempts": 90}}
            status, answer = client.ask("POST", f"/api/maps/{one.id}/webhooks", one.token, body)
            if status == 201:
                hook.id, hook.made = answer["data"]["id"], time.time()
            elif status is not None:
                hook.refused = True
            return status is not None
        hook = chance.choice(known)
        at = f"/api/maps/{hook.map.id}/webhooks/{hook.id}"
        if chance.random() < 0.5:
            hook.end_asked = time.time()
            status, _ = client.ask("DELETE", at, hook.map.token)
            if status in (200, 204):
                hook.ended = time.time()
            return status is not None
        url = f"http://127.0.0.1:9/changed/{chance.randrange(1 << 30)}"
        hook.changing = (time.time(), url)
        status, _ = client.ask("PATCH", at, hook.map.token, {"url": url})
        if status == 200:
            hook.urls.append((time.time(), url))
            hook.changing = None
        return status == 200

    def others(self, client, chance):
        """Maps that come and go, a source whose requests are refused, and backups."""
        kind = chance.randrange(4)
        if kind == 0:
            one = self.make_map(client, f"passing {chance.randrange(1 << 30)}")
            return one.made is not None
        if kind == 1 and len(passing := self.live_maps()[3:]) > 0:
            one = chance.choice(passing)
            one.end_asked = time.time()
            status, _ = client.ask("DELETE", f"/api/maps/{one.id}")
            if status == 204:
                one.ended = time.time()
            return status is not None
        if kind == 2:
            status, answer = client.ask("POST", "/api/webhooks", self.live_maps()[0].token, {"authentication": "none"})
            if status == 201:
                client.ask("POST", f"/webhooks/{answer['endpoint']['id']}", body={"no": "type"})
            return status is not None
        status, _ = client.raw("POST", "/api/v1/backup")
        time.sleep(0.05)
        return status is not None


def judge(server, book, at=float("inf")):
    """What is wrong with a server that must have everything acknowledged by then, and nothing that was asked for later."""
    client, wrong = server.client(), []
    status, answer = client.ask("GET", "/api/maps")
    if status != 200:
        return [f"the maps cannot be listed: {status} {answer}"]
    there = {one["id"]: one["name"] for one in answer["data"]}
    ids = {getattr(one, "id", None) for one in book.maps}
    wrong += [f"nobody made the map {name}" for id, name in there.items() if id not in ids and name not in {m.name for m in book.maps}]
    for one in book.maps:
        is_there = getattr(one, "id", None) in there or (not hasattr(one, "id") and one.name in there.values())
        wrong += [f"the map {one.name} is lost"] if one.must_be(at) and not is_there else []
        wrong += [f"the map {one.name} is there, and must not be"] if one.must_not_be(at) and is_there else []
    for one in [one for one in book.maps if getattr(one, "id", None) in there]:
        wrong += judge_events(client, book, one, at)
        wrong += judge_hooks(client, book, one, at)
    for token in book.tokens:
        if token.token is None or not token.map.must_be(at):
            continue
        status, _ = client.ask("GET", f"/api/maps/{token.map.id}/events?limit=1", token.token)
        wrong += [f"the token {token.id} is lost: {status}"] if token.must_be(at) and status != 200 else []
        wrong += [f"the token {token.id} counts: {status}"] if token.must_not_be(at) and status != 401 else []
    return wrong


def judge_events(client, book, one, at):
    status, text = client.raw("GET", f"/api/maps/{one.id}/events", one.token, headers={"Accept": "application/x-ndjson"})
    if status != 200:
        return [f"the events of {one.name} cannot be read: {status}"] if one.must_be(at) else []
    wrong, seen, before = [], {}, ""
    for line in text.splitlines():
        event = json.loads(line)
        if event["type"] != "add_system":
            continue
        n, id = event["payload"]["n"], event["id"]
        wrong += [f"event {n} is out of order"] if id <= before else []
        wrong += [f"event {n} is there twice"] if n in seen else []
        seen[n], before = id, id
    mine = [event for event in book.events if event.map is one]
    known = {n for event in mine for n in event.numbers}
    wrong += [f"event {n} of another map is in {one.name}" for n in seen if n not in known]
    for event in mine:
        is_there = [n in seen for n in event.numbers]
        if event.must_be(at):
            right = [seen.get(n) == id for n, id in zip(event.numbers, event.ids)]
            wrong += [] if all(right) else [f"of the events {event.numbers} of {one.name} some are lost: {is_there}"]
        elif event.must_not_be(at) and any(is_there):
            wrong.append(f"the events {event.numbers} of {one.name} are there, and must not be")
        elif any(is_there) and not all(is_there):
            wrong.append(f"of the batch {event.numbers} of {one.name} only a part is there")
    return wrong


def judge_hooks(client, book, one, at):
    status, answer = client.ask("GET", f"/api/maps/{one.id}/webhooks", one.token)
    if status != 200:
        return [f"the webhooks of {one.name} cannot be listed: {status}"] if one.must_be(at) else []
    there, wrong = {hook["id"]: hook["url"] for hook in answer["data"]}, []
    for hook in [hook for hook in book.hooks if hook.map is one and hook.id is not None]:
        wrong += [f"the webhook {hook.id} is lost"] if hook.must_be(at) and hook.id not in there else []
        wrong += [f"the webhook {hook.id} is there, and must not be"] if hook.must_not_be(at) and hook.id in there else []
        if hook.id in there:
            known = [url for when, url in hook.urls if when <= at]
            later = [url for when, url in hook.urls if when > at] + ([hook.changing[1]] if hook.changing else [])
            if there[hook.id] != known[-1] and there[hook.id] not in later:
                wrong.append(f"the webhook {hook.id} has {there[hook.id]} in place of {known[-1]}")
    return wrong
