// Receivers as servers of other makers answer: with interim answers first, without a length, with much in their heads. Each event
// is delivered once, and each outcome is recorded for its own event.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Stentor, until } from "./stentor.mjs";

const EVENTS = 40;

let folder;
let server;
let tls;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "stentor-receivers-"));
  // as administrators make one in a hurry: a certificate that signed itself
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const made = spawnSync("openssl", [
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=receiver".split(" "),
    ...["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
  ]);
  assert.equal(made.status, 0, String(made.stderr));
  tls = { key: readFileSync(key), cert: readFileSync(cert) };
  server = await Stentor.start(["--dev"], { "webhooks.tls_ca_file": cert });
});
after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The status for an event: the odd ones are refused, so that an answer which is taken for another event's shows. */
const statusOf = (n) => (n % 2 ? 500 : 200);
const numberIn = (body) => JSON.parse(body).payload.n;

/** Publishes events while a webhook posts them to the receiver, and judges what the server recorded of each. */
async function judged(slug, url, seen, count = EVENTS) {
  const map = await server.map(slug);
  const webhooks = `/api/maps/${slug}/webhooks`;
  await server.call("PUT", `${webhooks}/toggle`, map.token, { enabled: true });
  const { data: webhook } = await server.call("POST", webhooks, map.token, {
    url,
    events: ["*"],
    active: true,
    ordered: false,
    retry_policy: { attempts: 1 },
  });
  const numbers = new Map();
  for (let n = 0; n < count; n += 1) {
    const [id] = await server.publish(map, { type: "map_kill", payload: { n } });
    numbers.set(id, n);
  }
  const path = `${webhooks}/${webhook.id}/deliveries`;
  const list = async () => (await server.call("GET", `${path}?limit=100`, map.token)).data;
  const isDone = ({ status }) => status === "delivered" || status === "dead";
  await until(
    async () => `every delivery ends: ${JSON.stringify((await list()).filter((one) => !isDone(one)))}`,
    async () => (await list()).filter(isDone).length === count,
    40_000,
  );
  let reused = 0;
  for (const { id } of await list()) {
    const { data: delivery } = await server.call("GET", `${path}/${id}`, map.token);
    const n = numbers.get(delivery.event_ids[0]);
    assert.equal(delivery.attempts.length, 1);
    const [attempt] = delivery.attempts;
    assert.equal(attempt.status_code, statusOf(n), `event ${n}: ${JSON.stringify(attempt)}`);
    assert.equal(attempt.response_body, `event ${n}`, "the answer is the one to this event");
    reused += attempt.connection_reused;
  }
  // what a program saw comes through a pipe
  await until("the receiver has said what it saw", () => [...seen].length >= count);
  assert.deepEqual([...seen].sort((a, b) => a - b), [...numbers.values()], "each came once");
  return reused;
}

/** Answers like a handler of Node, after `first` has sent what it likes. */
function nodeHandler(seen, first) {
  return (request, response) => {
    let body = "";
    request.on("data", (text) => (body += text));
    request.on("end", () => {
      const n = numberIn(body);
      seen.push(n);
      first(response);
      response.statusCode = statusOf(n);
      response.end(`event ${n}`);
    });
  };
}

async function listening(receiver) {
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  return receiver.address().port;
}

function hints(response) {
  response.writeContinue();
  response.writeProcessing();
  response.writeEarlyHints({ link: ["</a.css>; rel=preload; as=style", "</b.js>; rel=preload; as=script"] });
}

test("Node's early hints, over a kept connection", async () => {
  const seen = [];
  const receiver = createServer(nodeHandler(seen, hints));
  const reused = await judged("node", `http://127.0.0.1:${await listening(receiver)}/`, seen);
  assert.ok(reused > 0);
  receiver.close();
});

test("Node's early hints, over a connection for each event", async () => {
  const seen = [];
  const receiver = createServer(nodeHandler(seen, hints));
  receiver.maxRequestsPerSocket = 1;
  assert.equal(await judged("node-close", `http://127.0.0.1:${await listening(receiver)}/`, seen), 0);
  receiver.close();
});

test("Node's early hints, over TLS with a certificate that signed itself", async () => {
  const seen = [];
  const receiver = createTlsServer(tls, nodeHandler(seen, hints));
  const reused = await judged("node-tls", `https://127.0.0.1:${await listening(receiver)}/`, seen);
  assert.ok(reused > 0);
  receiver.close();
});

/** A receiver on bare TCP: `answer` writes what it likes to a socket for each request. */
function bareReceiver(seen, onHead, answer) {
  return createTcpServer((socket) => {
    let text = "";
    let headSeen = false;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      text += bytes;
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!headSeen) onHead(socket);
      headSeen = true;
      const length = Number(/content-length: *(\d+)/i.exec(text)[1]);
      if (text.length < end + 4 + length) return;
      const n = numberIn(text.slice(end + 4, end + 4 + length));
      seen.push(n);
      [text, headSeen] = ["", false];
      answer(socket, n);
    });
  });
}

test("IIS, which sends 100 before it has the body of any POST", async () => {
  const seen = [];
  const receiver = bareReceiver(
    seen,
    (socket) => socket.write("HTTP/1.1 100 Continue\r\n\r\n"),
    (socket, n) => {
      const body = `event ${n}`;
      const head = `HTTP/1.1 ${statusOf(n)} Said\r\nCache-Control: private\r\nContent-Type: text/html; charset=utf-8\r\nServer: Microsoft-IIS/10.0\r\nX-AspNet-Version: 4.0.30319\r\nX-Powered-By: ASP.NET\r\nContent-Length: ${body.length}\r\n\r\n`;
      socket.write(head);
      socket.write(body);
    },
  );
  const reused = await judged("iis", `http://127.0.0.1:${await listening(receiver)}/`, seen);
  assert.ok(reused > 0);
  receiver.close();
});

test("answers without a length end with their connection", async () => {
  const seen = [];
  const receiver = bareReceiver(
    seen,
    () => {},
    (socket, n) => {
      socket.write(`HTTP/1.1 ${statusOf(n)} Said\r\nConnection: close\r\n\r\nevent `);
      setImmediate(() => socket.end(String(n)));
    },
  );
  assert.equal(await judged("no-length", `http://127.0.0.1:${await listening(receiver)}/`, seen), 0);
  receiver.close();
});

test("heads of 200 lines and 60 KB", async () => {
  const seen = [];
  const lines = Array.from({ length: 200 }, (_, n) => `Set-Cookie: c${n}=${"v".repeat(280)}\r\n`).join("");
  const receiver = bareReceiver(
    seen,
    () => {},
    (socket, n) => {
      const body = `event ${n}`;
      socket.write(`HTTP/1.1 ${statusOf(n)} Said\r\n${lines}Content-Length: ${body.length}\r\n\r\n${body}`);
    },
  );
  const reused = await judged("long-heads", `http://127.0.0.1:${await listening(receiver)}/`, seen);
  assert.ok(reused > 0);
  receiver.close();
});

/** A receiver that is a program: it prints its port, and then the number of each event. */
async function program(name, command) {
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  let [output, errors] = ["", ""];
  child.stdout.on("data", (text) => (output += text));
  child.stderr.on("data", (text) => (errors += text));
  const lines = () => output.split("\n").slice(0, -1).map(Number);
  const started = () => lines().length > 0 || child.exitCode !== null;
  await until(() => `${name} listens; it said: ${errors}`, started);
  assert.equal(child.exitCode, null, errors);
  return { port: lines()[0], seen: () => lines().slice(1), stop: () => child.kill("SIGKILL") };
}

/** A file of the test with this text. */
function written(name, text) {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

async function judgedProgram(slug, { port, seen, stop }) {
  // what it saw grows while the test runs
  const late = { *[Symbol.iterator]() { yield* seen(); } };
  try {
    return await judged(slug, `http://127.0.0.1:${port}/`, late);
  } finally {
    stop();
  }
}

test("Python's http.server, which speaks HTTP/1.0 and ends each connection", async () => {
  const source = `
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        n = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["payload"]["n"]
        # in one piece, as several threads do
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
        self.send_response(500 if n % 2 else 200)
        self.end_headers()
        self.wfile.write(b"event %d" % n)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
`;
  const receiver = await program("Python", [".venv/bin/python", "-B", written("receiver.py", source)]);
  assert.equal(await judgedProgram("python", receiver), 0);
});

test("a script in Perl, which ends lines with LF and says no reason and no length", async () => {
  const source = `
use IO::Socket::INET;
$| = 1;
my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => "127.0.0.1:0") or die $!;
print $listener->sockport, "\\n";
while (my $client = $listener->accept) {
    my $length = 0;
    while (<$client>) {
        last if /^\\r?$/;
        $length = $1 if /^content-length: *([0-9]+)/i;
    }
    read $client, my $body, $length;
    my ($n) = $body =~ /"n":([0-9]+)/;
    print "$n\\n";
    print $client "HTTP/1.1 ", ($n % 2 ? 500 : 200), "\\nX-Made-By: hand\\n\\nevent $n";
    close $client;
}
`;
  const receiver = await program("Perl", ["perl", written("receiver.pl", source)]);
  assert.equal(await judgedProgram("perl", receiver), 0);
});

test("Go's net/http, with early hints and chunks", async () => {
  const source = `
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
)

type event struct{ Payload struct{ N int } }

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	numbers := make(chan int)
	go func() {
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
		for n := range numbers {
			fmt.Println(n)
		}
	}()
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			panic(err)
		}
		numbers <- e.Payload.N
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(200 + e.Payload.N%2*300)
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "event ")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, e.Payload.N)
	})))
}
`;
  const binary = join(folder, "receiver");
  const built = spawnSync("go", ["build", "-o", binary, written("receiver.go", source)], { timeout: 120_000 });
  assert.equal(built.status, 0, String(built.stderr));
  const receiver = await program("Go", [binary]);
  assert.ok((await judgedProgram("go", receiver)) > 0);
});
