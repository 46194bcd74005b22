#!/usr/bin/env bash
# Clients that generators make of the API document: they are made, they compile, and a program that uses their names does too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
folder=$(mktemp -d "${TMPDIR:-/tmp}/stentor-generated-XXXXXX")
trap 'rm -rf "$folder"' EXIT
here=$PWD document=$PWD/../../docs/openapi.json

# TypeScript: types of every operation, and of one that is used
node_modules/.bin/openapi-typescript "$document" --output "$folder/api.ts" >/dev/null
cat >"$folder/use.ts" <<'END'
import type { components, operations } from "./api.js";

type Made = operations["create_map"]["responses"][201]["content"]["application/json"];
const made: Made["data"]["slug"] = "home";
const ids: operations["publish_map_events"]["responses"][201]["content"]["application/json"]["data"]["ids"] = [];
const token: components["schemas"]["Token"]["scopes"] = ["subscribe"];
export const all = [made, ...ids, ...token];
END
node_modules/.bin/tsc --noEmit --strict --target es2022 --module nodenext "$folder/use.ts"

# Python: functions and classes of every operation
.venv/bin/openapi-python-client generate --path "$document" --meta none --config generated.yaml --output-path "$folder/stentor_api" >"$folder/log" 2>&1 ||
    { cat "$folder/log" >&2; exit 1; }
cat >"$folder/use.py" <<'END'
from stentor_api import AuthenticatedClient
from stentor_api.api.maps import create_map, list_maps
from stentor_api.api.tokens import create_token
from stentor_api.api.webhooks import list_map_webhooks, rotate_organization_webhook_secret
from stentor_api.models import CreateMap

client = AuthenticatedClient(base_url="http://127.0.0.1:8080", token="st_x")
for module in (create_map, list_maps, create_token, list_map_webhooks, rotate_organization_webhook_secret):
    assert callable(module.sync)
assert CreateMap(name="Home").to_dict() == {"name": "Home"}
END
cd "$folder"
"$here/.venv/bin/python" -B -m compileall -q stentor_api
"$here/.venv/bin/python" -B use.py
echo "clients are made of $(grep -c '"operationId"' "$document") operations, in TypeScript and in Python"
