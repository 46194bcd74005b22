"""Schemathesis against the real server: no request gets a 500, or an answer that the document does not promise.

Streams have no end, so they are asked for without a credential: what is judged there are their errors. The run is
bounded in time and its seed is fixed; SEED=n tries another one.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))
import stentor  # noqa: E402

SEED = os.environ.get("SEED", "20251127")
SECONDS = os.environ.get("SECONDS_OF_FUZZING", "60")

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

# What is there, so that requests go further than to a 404. Nothing of it is deleted: its names are not those of the examples.
CONFIG = """
{dictionaries}

[[operations]]
exclude-method = "DELETE"
parameters = {{ {parameters} }}
"""


def call(server, method, path, body=None):
    request = urllib.request.Request(
        server.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {stentor.ADMIN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def furnish(server):
    """Puts something behind every parameter of a path: parameter to value."""
    made = call(server, "POST", "/api/maps", {"name": "Home", "slug": "furnished"})["data"]
    ids = call(server, "POST", "/api/maps/furnished/events", [{"type": "map_kill", "payload": {"n": n}} for n in range(20)])
    call(server, "PUT", "/api/maps/furnished/webhooks/toggle", {"enabled": True})
    # nobody listens there, so that there is a delivery that is dead
    hook = {"url": f"http://127.0.0.1:{stentor.free_port()}/", "retry_policy": {"policy": "constant", "delaySeconds": 1, "attempts": 1}}
    webhook = call(server, "POST", "/api/maps/furnished/webhooks", hook)["data"]["id"]
    call(server, "POST", "/api/maps/furnished/events", {"type": "map_kill"})
    deliveries = f"/api/maps/furnished/webhooks/{webhook}/deliveries"
    dead = stentor.until("a delivery is dead", lambda: call(server, "GET", f"{deliveries}?status=dead")["data"])
    source = call(server, "POST", "/api/webhooks", {"authentication": "none", "channel": "map:furnished"})["endpoint"]["id"]
    return {
        "map": made["id"], "org": "default", "webhook": webhook, "delivery": dead[0]["id"], "source": source, "letter": 1,
        "job": 1, "id": ids["data"]["ids"][0],
    }


def config(values):
    dictionaries = "\n".join(f"[dictionaries.{name}]\nvalues = [{json.dumps(value)}]" for name, value in values.items())
    parameters = ", ".join(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.7 }}' for name in values)
    return CONFIG.format(dictionaries=dictionaries, parameters=parameters)


def main():
    # the receiver that is not there
    os.environ |= {"STENTOR__WEBHOOKS__ALLOW_HTTP": "true", "STENTOR__WEBHOOKS__ALLOW_NETWORKS": "127.0.0.1"}
    server = stentor.Stentor()
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "schemathesis.toml").write_text(config(furnish(server)))
            return run(server, folder)
    finally:
        server.stop()


def run(server, folder):
    schemathesis = Path(sys.executable).with_name("schemathesis")
    streams = r"(/stream|/ws|/realtime|/system/events|/webhooks/\{source\}/events)$"
    common = [
        str(schemathesis), "run", f"{server.url}/openapi.json",
        "--checks", CHECKS, "--seed", SEED, "--mode", "all", "--request-timeout", "15", "--suppress-health-check", "all",
        "--continue-on-failure", "--no-color",
    ]
    credential = ["--header", f"Authorization: Bearer {stentor.ADMIN}"]
    everything = common + credential + [
        "--exclude-path-regex", streams, "--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--max-time", SECONDS,
    ]
    # no credential opens these, so each answer is an error and ends
    endless = common + ["--include-path-regex", streams, "--phases", "coverage,fuzzing", "--max-examples", "15", "--max-time", "15"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(Path(__file__).parent)}
    commands = [everything, endless]
    results = [subprocess.run(command, cwd=folder, env=environment, timeout=100).returncode for command in commands]
    return 1 if any(results) else 0


if __name__ == "__main__":
    sys.exit(main())
