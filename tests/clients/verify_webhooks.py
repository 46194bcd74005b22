"""Verifies deliveries, given as JSON on standard input, with the library of Standard Webhooks."""

import json
import sys

from standardwebhooks import Webhook

given = json.load(sys.stdin)
webhook = Webhook(given["secret"])
for delivery in given["deliveries"]:
    webhook.verify(delivery["body"], delivery["headers"])
print("verified", len(given["deliveries"]))
