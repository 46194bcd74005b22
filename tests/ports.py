"""Ports for servers that tests start, stop and start again."""

import random
import socket

# A socket for datagrams on each port that was given out: as long as this process runs, no other test gets the same one.
CLAIMS: list[socket.socket] = []


def free_port() -> int:
    """Stays free while the server that uses it is down: below the range of outgoing connections, and given out once
    among all tests that run."""
    for _ in range(100):
        port = random.randrange(15_000, 30_000)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        CLAIMS.append(claim)
        return port
    raise RuntimeError("no free port found")
