"""Drives the Python client as the conformance suite says: one JSON object on standard input, one JSON object a line back.

`driver.py async` drives the client for asyncio."""

import asyncio
import base64
import json
import sys
import time

from stentor import AsyncStentor, FileCursor, InvalidSignature, Stentor, StentorError, verify_webhook


def say(**what):
    print(json.dumps(what), flush=True)


def following(task):
    return {
        "cursor": FileCursor(task["cursor"]) if task.get("cursor") else None,
        "after": task.get("after"),
        "events": task.get("events"),
        "transport": task["transport"],
        "tickets": task.get("tickets", False),
        "on_gap": lambda gap: say(gap={"reason": gap.reason, "oldest": gap.oldest}),
        "on_error": lambda error, wait_s: say(error={"status": error.status, "code": error.code, "wait_ms": wait_s * 1000}),
    }


def shown(event):
    return {"id": event.id, "type": event.type, "n": event.payload.get("n"), "at": event.timestamp.timestamp()}


def follow(task):
    count = 0
    with Stentor(task["server"], task["token"]) as stentor:
        for event in stentor.follow(task["channel"], **following(task)):
            say(event=shown(event))
            time.sleep(task.get("slow_ms", 0) / 1000)
            count += 1
            if count == task.get("count"):
                return


def publish(task):
    with Stentor(task["server"], task["token"]) as stentor:
        for n in range(task["from"], task["to"]):
            say(id=stentor.publish(task["channel"], "add_system", {"n": n}))
        say(ids=stentor.publish_batch(task["channel"], [{"type": "map_kill", "payload": {"n": n}} for n in (-1, -2)]))


def manage(task):
    with Stentor(task["server"], task["token"]) as stentor:
        made = stentor.create_map("Managed", "managed")
        organization = stentor.create_organization("Managed", "managed")
        for channel, session in ((f"map:{made['slug']}", None), ("organization:managed", "s1")):
            token = stentor.create_token(channel, ["subscribe", "publish"])
            named = stentor.rename_token(token["id"], "renamed")["name"]
            with Stentor(task["server"], token["token"]) as own:
                own.publish(channel, "add_system", {"n": 1}, session=session)
                first = next(own.history(channel))
            webhook = stentor.create_webhook(channel, task["url"], events=["add_system"])
            changed = stentor.update_webhook(channel, webhook["id"], active=False)
            listed = [one["id"] for one in stentor.webhooks(channel)]
            stentor.delete_webhook(channel, webhook["id"])
            source = stentor.create_source(channel, "api_key", name="game")
            sources = [one["id"] for one in stentor.sources(channel)]
            stentor.delete_source(source["endpoint"]["id"])
            stentor.revoke_token(token["id"])
            say(
                event=shown(first),
                active=changed["active"],
                webhook=listed == [webhook["id"]] and not stentor.webhooks(channel),
                source=sources == [source["endpoint"]["id"]] and bool(source["secret"]),
                named=named,
                token=token["id"] not in [one["id"] for one in stentor.tokens()],
            )
        stentor.toggle_webhooks(made["id"], True)
        say(on=[one["webhooks_enabled"] for one in stentor.maps() if one["id"] == made["id"]])
        stentor.delete_map(made["id"])
        stentor.delete_organization(organization["id"])
        try:
            stentor.request("PATCH", "/api/maps/managed", body={"name": "x"})
        except StentorError as error:
            say(refused={"status": error.status, "code": error.code})


async def follow_async(task):
    count = 0
    async with AsyncStentor(task["server"], task["token"]) as stentor:
        async for event in stentor.follow(task["channel"], **following(task)):
            say(event=shown(event))
            await asyncio.sleep(task.get("slow_ms", 0) / 1000)
            count += 1
            if count == task.get("count"):
                return


async def publish_async(task):
    async with AsyncStentor(task["server"], task["token"]) as stentor:
        for n in range(task["from"], task["to"]):
            say(id=await stentor.publish(task["channel"], "add_system", {"n": n}))
        events = [{"type": "map_kill", "payload": {"n": n}} for n in (-1, -2)]
        say(ids=await stentor.publish_batch(task["channel"], events))


async def manage_async(task):
    async with AsyncStentor(task["server"], task["token"]) as stentor:
        made = await stentor.create_map("Managed", "managed")
        organization = await stentor.create_organization("Managed", "managed")
        for channel, session in ((f"map:{made['slug']}", None), ("organization:managed", "s1")):
            token = await stentor.create_token(channel, ["subscribe", "publish"])
            named = (await stentor.rename_token(token["id"], "renamed"))["name"]
            async with AsyncStentor(task["server"], token["token"]) as own:
                await own.publish(channel, "add_system", {"n": 1}, session=session)
                first = await anext(own.history(channel))
            webhook = await stentor.create_webhook(channel, task["url"], events=["add_system"])
            changed = await stentor.update_webhook(channel, webhook["id"], active=False)
            listed = [one["id"] for one in await stentor.webhooks(channel)]
            await stentor.delete_webhook(channel, webhook["id"])
            source = await stentor.create_source(channel, "api_key", name="game")
            sources = [one["id"] for one in await stentor.sources(channel)]
            await stentor.delete_source(source["endpoint"]["id"])
            await stentor.revoke_token(token["id"])
            say(
                event=shown(first),
                active=changed["active"],
                webhook=listed == [webhook["id"]] and not await stentor.webhooks(channel),
                source=sources == [source["endpoint"]["id"]] and bool(source["secret"]),
                named=named,
                token=token["id"] not in [one["id"] for one in await stentor.tokens()],
            )
        await stentor.toggle_webhooks(made["id"], True)
        say(on=[one["webhooks_enabled"] for one in await stentor.maps() if one["id"] == made["id"]])
        await stentor.delete_map(made["id"])
        await stentor.delete_organization(organization["id"])
        try:
            await stentor.request("PATCH", "/api/maps/managed", body={"name": "x"})
        except StentorError as error:
            say(refused={"status": error.status, "code": error.code})


def verify(task):
    def valid(case):
        try:
            verify_webhook(
                base64.b64decode(case["body"]), case["headers"], case["secret"], format=case.get("format"), now=case.get("now")
            )
        except InvalidSignature:
            return False
        return True

    say(valid=[valid(case) for case in task["cases"]])


def main():
    task = json.loads(sys.stdin.readline())
    is_async = "async" in sys.argv
    try:
        match task["do"], is_async:
            case "verify", _:
                verify(task)
            case "follow", False:
                follow(task)
            case "publish", False:
                publish(task)
            case "manage", False:
                manage(task)
            case "follow", True:
                asyncio.run(follow_async(task))
            case "publish", True:
                asyncio.run(publish_async(task))
            case "manage", True:
                asyncio.run(manage_async(task))
    except StentorError as error:
        say(fatal={"status": error.status, "code": error.code, "passing": error.passing})


main()
