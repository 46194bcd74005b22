"""Three NATS servers and three nodes under load: publishers that repeat what was not answered at another node, by an Idempotency-Key;
streams that resume at another node; webhooks. A node or a NATS server is killed now and then, and started again. In the end every
acknowledged event must be in the log of each node once and in order, each stream must have shown exactly that, and each webhook
must have got every event. Run by scripts/report as the part cluster; alone, from a folder with STENTOR_BIN:

    tests/reliability/cluster.py --seconds 600 --rate 3000 --maps 100 --readers 3000 --webhooks 1000
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]
from ports import free_port  # noqa: E402
from server import ADMIN, SETTINGS, Client  # noqa: E402

SERVERS = NODES = 3
# What is killed is started again after this.
DOWN_S = 5
# By when all is well again, or what was published is everywhere. An election of NATS takes up to nine seconds.
SETTLED_S = 120
ANSWER_S = 40
PUBLISHERS = 32
NATS = os.environ.get("STENTOR_NATS_SERVER") or Path(__file__).resolve().parents[1] / "cluster/.venv/bin/nats-server"


class Child:
    """A server that is killed and started again."""

    def __init__(self, name, command, log, environment=None, ready=None):
        self.name, self.command, self.log, self.environment, self.ready = name, command, log, environment, ready
        self.child = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)

    def kill(self, number=signal.SIGKILL):
        if self.child.poll() is None:
            self.child.send_signal(number)
        self.child.wait(30)

    def is_ready(self):
        host, target = self.ready
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", target)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self):
        deadline = time.monotonic() + SETTLED_S
        while not self.is_ready():
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise SystemExit(f"{self.name} does not get ready:\n{Path(self.log).read_text()[-3000:]}")
            time.sleep(0.1)


def start_nats(folder):
    ports, routes, monitors = ([free_port() for _ in range(SERVERS)] for _ in range(3))
    named = ", ".join(f'"nats://127.0.0.1:{route}"' for route in routes)
    servers = []
    for n in range(SERVERS):
        config = folder / f"n{n}.conf"
        config.write_text(
            f"server_name: n{n}\nlisten: 127.0.0.1:{ports[n]}\nhttp: 127.0.0.1:{monitors[n]}\nmax_payload: 8MB\n"
            f'jetstream {{ store_dir: "{folder}/n{n}", sync_interval: always }}\n'
            f"cluster {{ name: trial, listen: 127.0.0.1:{routes[n]}, routes: [{named}] }}\n"
        )
        environment = os.environ | {"GOMEMLIMIT": "200MiB"}
        ready = (f"127.0.0.1:{monitors[n]}", "/healthz")
        servers.append(Child(f"n{n}", [NATS, "-c", config], folder / f"n{n}.log", environment, ready))
    for server in servers:
        server.wait()
    return servers, ",".join(f"nats://127.0.0.1:{port}" for port in ports), ",".join(f"http://127.0.0.1:{port}" for port in monitors)


def start_nodes(folder, servers, monitor):
    # one without a small segment: these are for folders that are read through
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("STORAGE")} | {
        "ENGINE": "nats",
        "NATS__SERVERS": servers,
        "NATS__MONITOR": monitor,
        "LIMITS__WEBHOOKS_PER_MAP": "1000",
        "LIMITS__STREAMS_PER_CHANNEL": "10000",
        "LIMITS__STREAMS_PER_TOKEN": "10000",
        "LIMITS__STREAMS_TOTAL": "20000",
        "SERVER__MAX_CONNECTIONS": "20000",
        "JOURNAL__ANSWER_TIMEOUT_S": "30",
    }
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("STENTOR", "RUST"))}
    nodes = []
    for n, port in enumerate(free_port() for _ in range(NODES)):
        environment = usual | {f"STENTOR__{name}": value for name, value in settings.items()}
        environment |= {
            "STENTOR__CLUSTER__NODE": f"node-{n}",
            "STENTOR_ADMIN_TOKEN": ADMIN,
            "STENTOR_SECRET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        }
        command = [os.environ["STENTOR_BIN"], "serve", "--listen", f"127.0.0.1:{port}", "--data", folder / f"node-{n}"]
        nodes.append(Child(f"node-{n}", command, folder / f"node-{n}.log", environment, (f"127.0.0.1:{port}", "/health/ready")))
    for node in nodes:
        node.wait()
    return nodes


async def answer_of(reader):
    """The status, and the body of an answer that has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(head[9:12]), await reader.readexactly(int(length[1])) if length else b""


def publishers(given, pipe):
    """Publishes at a steady rate until it is told to end; then says what was acknowledged, by map."""
    addresses, maps, rate, seed = given
    acknowledged = {one["id"]: [] for one in maps}
    noted = {"repeated": 0, "refused": 0, "longest_s": 0.0, "failures": []}
    going = True

    async def publish(k):
        nonlocal going
        chance, node, stream, n, last = random.Random(f"{seed} {k}"), k % NODES, None, k, "nothing"
        loop = asyncio.get_running_loop()
        due = loop.time() + k / rate
        while going:
            due += PUBLISHERS / rate
            await asyncio.sleep(max(0, due - loop.time()))
            one, began = chance.choice(maps), loop.time()
            body = json.dumps({"type": "map_kill", "payload": {"n": n, "text": "x" * chance.choice([20, 200])}}).encode()
            head = (
                f"POST /api/maps/{one['id']}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {one['token']}\r\nIdempotency-Key: {n}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            while True:
                try:
                    if stream is None:
                        host, port = addresses[node].split(":")
                        stream = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 5)
                    stream[1].write(head.encode() + body)
                    status, said = await asyncio.wait_for(answer_of(stream[0]), ANSWER_S)
                    if status == 201:
                        acknowledged[one["id"]].append((n, json.loads(said)["data"]["ids"][0]))
                        break
                    if status < 500:
                        noted["failures"].append(f"publishing is refused: {status} {said[:200]}")
                        return
                    noted["refused"] += 1
                    last = f"{status} {said[:200]} of node {node}"
                except (OSError, EOFError, asyncio.TimeoutError, asyncio.IncompleteReadError) as e:
                    noted["repeated"] += 1
                    last = repr(e)
                if stream is not None:
                    stream[1].close()
                stream, node = None, (node + 1) % NODES
                await asyncio.sleep(0.1)
                if loop.time() - began > SETTLED_S:
                    noted["failures"].append(f"event {n} is not acknowledged after {SETTLED_S} s; the last answer: {last}")
                    return
            noted["longest_s"] = max(noted["longest_s"], loop.time() - began)
            n += PUBLISHERS

    async def main():
        nonlocal going
        tasks = [asyncio.create_task(publish(k)) for k in range(PUBLISHERS)]
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        going = False
        await asyncio.gather(*tasks)

    asyncio.run(main())
    pipe.send((acknowledged, noted))


EVENT = re.compile(rb"id: ([0-9A-Z]{26})\ndata: ")


class Reader:
    """A stream that resumes at another node when it is lost."""

    def __init__(self, one, n):
        self.one, self.node = one, n % NODES
        self.count, self.digest, self.last, self.resumed, self.failures = 0, 0, b"", -1, []
        self.opened = asyncio.Event()

    def take(self, frames):
        if b"event: gap" in frames:
            self.failures.append(f"a gap behind {self.last}")
        if not self.last and (at := re.search(rb"event: connected\nid: (\S+)", frames)):
            self.last = at[1]
            self.opened.set()
        for event in EVENT.findall(frames):
            if event <= self.last:
                self.failures.append(f"{event} comes behind {self.last}")
            self.last, self.count, self.digest = event, self.count + 1, zlib.crc32(event, self.digest)

    def judge(self, count, digest):
        """What is wrong with what it has shown, where the log has so many events of this digest."""
        if (self.count, self.digest) == (count, digest):
            return self.failures
        return [*self.failures, f"it has shown {self.count} events, and the log has {count}, or others"]

    async def run(self, addresses):
        while True:
            writer = None
            try:
                host, port = addresses[self.node].split(":")
                reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port), limit=1 << 20), 5)
                resume = f"Last-Event-ID: {self.last.decode()}\r\n" if self.last else ""
                writer.write(
                    f"GET /api/maps/{self.one['id']}/events/stream HTTP/1.1\r\nHost: x\r\n{resume}"
                    f"Authorization: Bearer {self.one['token']}\r\n\r\n".encode()
                )
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                if head.startswith(b"HTTP/1.1 200"):
                    self.resumed += 1
                    rest = b""
                    # a node that hangs says nothing; keepalives come more often
                    while size := int(await asyncio.wait_for(reader.readline(), 60) or b"0", 16):
                        rest += (await reader.readexactly(size + 2))[:-2]
                        whole, _, rest = rest.rpartition(b"\n\n")
                        self.take(whole + b"\n\n")
            except (OSError, EOFError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                pass
            finally:
                if writer is not None:
                    writer.close()
            self.node = (self.node + 1) % NODES
            await asyncio.sleep(0.2)


def readers(given, pipe):
    """Follows until it is told how much there is to be seen; then says what was not seen."""
    addresses, maps, count = given

    async def main():
        loop = asyncio.get_running_loop()
        all_of_them = [Reader(maps[n % len(maps)], n // len(maps)) for n in range(count)]
        tasks = [asyncio.create_task(one.run(addresses)) for one in all_of_them]
        await asyncio.gather(*(one.opened.wait() for one in all_of_them))
        pipe.send("open")
        expected = await loop.run_in_executor(None, pipe.recv)
        deadline = loop.time() + SETTLED_S
        is_behind = lambda one: one.count < expected[one.one["id"]][0]  # noqa: E731
        while any(map(is_behind, all_of_them)) and loop.time() < deadline:
            await asyncio.sleep(0.2)
        failures = [f"stream {n}: {wrong}" for n, one in enumerate(all_of_them) for wrong in one.judge(*expected[one.one["id"]])]
        for task in tasks:
            task.cancel()
        return failures, sum(one.count for one in all_of_them), sum(one.resumed for one in all_of_them)

    pipe.send(asyncio.run(main()))


def receiver(_, pipe):
    """Takes deliveries until it is told what each webhook must have got; then says what it has not."""
    got, posts, failures = {}, 0, []

    async def serve(reader, writer):
        nonlocal posts
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
                n = json.loads(await reader.readexactly(length))["payload"]["n"]
                delivery = re.search(rb"(?i)\r\nwebhook-id: *(\S+)", head)[1]
                posts += 1
                before = got.setdefault(head.split(b" ", 2)[1].decode(), {}).setdefault(n, delivery)
                if before != delivery:
                    failures.append(f"event {n} came as {before} and as {delivery}")
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()

    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
        pipe.send(server.sockets[0].getsockname()[1])
        expected = await loop.run_in_executor(None, pipe.recv)
        deadline = loop.time() + SETTLED_S
        is_behind = lambda path: len(got.get(path, ())) < len(expected[path])  # noqa: E731
        while any(map(is_behind, expected)) and loop.time() < deadline:
            await asyncio.sleep(0.2)
        for path, numbers in expected.items():
            failures.extend(judge_webhook(path, numbers, got.get(path, {})))

    asyncio.run(main())
    pipe.send((failures, posts, posts - sum(map(len, got.values()))))


def judge_webhook(path, numbers, got):
    """What is wrong with the deliveries by their number, where the log has these numbers."""
    missing = set(numbers) - set(got)
    return [f"the webhook {path} has not got {len(missing)} of {len(numbers)} events, such as {min(missing)}"] if missing else []


def digest_of(ids):
    """The same that a reader makes of what it is shown."""
    digest = 0
    for event in ids:
        digest = zlib.crc32(event.encode(), digest)
    return digest


def apart(what, given):
    """Runs it as a process of its own; the end of its pipe."""
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.Process(target=what, args=(given, theirs), daemon=True).start()
    return ours


def make(client, options, port):
    """Maps and webhooks; the webhooks by the path that they post to, each with the map."""
    maps, hooks = [], {}
    for n in range(options.maps):
        status, made = client.ask("POST", "/api/maps", body={"name": f"map {n}"})
        assert status == 201, made
        maps.append(made["data"])
        client.ask("PUT", f"/api/maps/{made['data']['id']}/webhooks/toggle", made["data"]["token"], {"enabled": True})
    for n in range(options.webhooks):
        one, path = maps[n % len(maps)], f"/{n}"
        status, answer = client.ask("POST", f"/api/maps/{one['id']}/webhooks", one["token"], {"url": f"http://127.0.0.1:{port}{path}"})
        assert status == 201, answer
        hooks[path] = one["id"]
    return maps, hooks


def exports_of(nodes, one):
    """The log of a map as every node has it."""
    exports = []
    for node in nodes:
        headers = {"Accept": "application/x-ndjson"}
        status, text = Client(node.ready[0]).raw("GET", f"/api/maps/{one['id']}/events", one["token"], headers=headers)
        assert status == 200, text[:300]
        exports.append(text)
    return exports


def judge_log(exports, name, acknowledged):
    """What is wrong with the log of a map; its ids and numbers."""
    failures = [] if len(set(exports)) == 1 else [f"the nodes have different logs of {name}"]
    events = [json.loads(line) for line in exports[0].splitlines()]
    ids, numbers = [event["id"] for event in events], [event["payload"]["n"] for event in events]
    if sorted(set(ids)) != ids:
        failures.append(f"the events of {name} are not in order")
    if len(set(numbers)) != len(numbers):
        failures.append(f"{len(numbers) - len(set(numbers))} events of {name} are doubled")
    stored = dict(zip(numbers, ids))
    if lost := [n for n, event in acknowledged if stored.get(n) != event]:
        failures.append(f"{len(lost)} acknowledged events of {name} are lost, such as {lost[0]}")
    return failures, ids, numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--rate", type=float, default=150, help="events a second")
    parser.add_argument("--maps", type=int, default=12)
    parser.add_argument("--readers", type=int, default=36)
    parser.add_argument("--webhooks", type=int, default=24)
    parser.add_argument("--every-s", type=float, default=30, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chance, figures = random.Random(options.seed), {"kills": 0}
    with tempfile.TemporaryDirectory(prefix="stentor-cluster-") as name:
        folder, children = Path(name), []
        try:
            servers, addresses, monitor = start_nats(folder)
            children += servers
            nodes = start_nodes(folder, addresses, monitor)
            children += nodes
            failures = load(options, chance, figures, servers, nodes)
        finally:
            for child in children:
                child.kill()
    figures["failures"] = failures
    if options.out:
        options.out.write_text(json.dumps(figures))
    print(f"{figures}"[:2_000])
    sys.exit(1 if failures else 0)


def load(options, chance, figures, servers, nodes):
    hosts = [node.ready[0] for node in nodes]
    of_receiver = apart(receiver, None)
    maps, hooks = make(Client(hosts[0]), options, of_receiver.recv())
    time.sleep(1)  # every node knows them by then
    of_readers = apart(readers, (hosts, maps, options.readers))
    assert of_readers.poll(SETTLED_S), "not all streams open"
    of_readers.recv()
    of_publishers = apart(publishers, (hosts, maps, options.rate, options.seed))
    end = time.monotonic() + options.seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, options.every_s))
        if time.monotonic() < end:
            # the one as often as the other
            victim = chance.choice([nodes, servers][figures["kills"] % 2])
            victim.kill()
            figures["kills"] += 1
            print(f"{options.seconds - (end - time.monotonic()):.0f} s: {victim.name} is killed", flush=True)
            time.sleep(DOWN_S)
            victim.start()
    of_publishers.send("end")
    acknowledged, noted = of_publishers.recv()
    failures = noted.pop("failures")
    for child in [*servers, *nodes]:
        child.wait()
    figures |= noted
    expected, numbers = {}, {}
    for one in maps:
        wrong, ids, numbers[one["id"]] = judge_log(exports_of(nodes, one), one["name"], acknowledged[one["id"]])
        failures += wrong
        expected[one["id"]] = (len(ids), digest_of(ids))
    figures["acknowledged"] = sum(map(len, acknowledged.values()))
    of_readers.send(expected)
    of_receiver.send({path: numbers[of] for path, of in hooks.items()})
    wrong, figures["shown"], figures["resumed"] = of_readers.recv()
    failures += wrong
    wrong, figures["posts"], figures["posted_again"] = of_receiver.recv()
    return failures + wrong


if __name__ == "__main__":
    main()
