"""What judges the run of a cluster finds each kind of fault in what it is shown, and none where there is none."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cluster import Reader, digest_of, judge_log, judge_webhook  # noqa: E402

IDS = [f"01J{n:023}" for n in range(6)]
ACKNOWLEDGED = list(enumerate(IDS))


def lines(numbered):
    return b"".join(json.dumps({"id": event, "payload": {"n": n}}).encode() + b"\n" for n, event in numbered)


def shown(ids, behind=b""):
    reader = Reader({"id": "map"}, 0)
    reader.take(f"event: connected\nid: {'0' * 26}\nretry: 3000\ndata: {{}}\n\n".encode())
    reader.take(behind + b"".join(b"id: " + event.encode() + b"\ndata: {}\n\n" for event in ids))
    return reader.judge(len(IDS), digest_of(IDS))


class Log(unittest.TestCase):
    def judged(self, *logs):
        return judge_log([lines(log) for log in logs], "a map", ACKNOWLEDGED)[0]

    def test_that_is_whole_is_right(self):
        self.assertEqual(self.judged(*[ACKNOWLEDGED] * 3), [])
        unanswered = [*ACKNOWLEDGED, (99, f"01K{0:023}")]
        self.assertEqual(self.judged(unanswered), [], "the answer of the last one was lost")

    def test_where_an_event_is_lost_is_wrong(self):
        for n in range(len(IDS)):
            log = ACKNOWLEDGED[:n] + ACKNOWLEDGED[n + 1 :]
            self.assertIn("1 acknowledged events of a map are lost", self.judged(log, log, log)[0])

    def test_where_an_event_is_doubled_or_has_another_place_is_wrong(self):
        doubled = [*ACKNOWLEDGED, (2, f"01K{0:023}")]
        self.assertIn("doubled", " ".join(self.judged(doubled)))
        moved = [*ACKNOWLEDGED[1:], ACKNOWLEDGED[0]]
        self.assertIn("not in order", " ".join(self.judged(moved)))
        other = [(n, f"01K{n:023}") for n in range(len(IDS))]
        self.assertIn("lost", " ".join(self.judged(other)))

    def test_that_nodes_have_differently_is_wrong(self):
        self.assertIn("different logs", self.judged(ACKNOWLEDGED, ACKNOWLEDGED[:-1], ACKNOWLEDGED)[0])


class Stream(unittest.TestCase):
    def test_that_shows_the_log_is_right(self):
        self.assertEqual(shown(IDS), [])

    def test_with_a_hole_a_repetition_another_order_or_a_gap_is_wrong(self):
        for n in range(len(IDS)):
            self.assertTrue(shown(IDS[:n] + IDS[n + 1 :]), n)
        self.assertIn("comes behind", shown([*IDS[:3], *IDS[2:]])[0])
        self.assertIn("comes behind", shown([IDS[1], IDS[0], *IDS[2:]])[0])
        self.assertIn("a gap", shown(IDS, b'event: gap\ndata: {"reason":"expired"}\n\n')[0])


class Webhook(unittest.TestCase):
    def test_without_one_event_is_wrong(self):
        got = {n: b"delivery" for n in range(6)}
        self.assertEqual(judge_webhook("/1", range(6), got), [])
        for n in range(6):
            self.assertTrue(judge_webhook("/1", range(6), {m: d for m, d in got.items() if m != n}))


if __name__ == "__main__":
    unittest.main()
