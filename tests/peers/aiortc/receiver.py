"""Receives WHIP with aiortc and counts what it gets: one line `<kind> <frames so far>` a second for each stream.

Usage: receiver.py ADDRESS PORT. Ends when its standard input is closed. Untouched aiortc: as DTLS client it offers ECDSA
cipher suites only, so it proves that our certificate suits such peers.
"""

import asyncio
import sys

from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

counts: dict[str, int] = {}
sessions: dict[str, RTCPeerConnection] = {}


async def count(track):
    try:
        while True:
            await track.recv()
            counts[track.kind] = counts.get(track.kind, 0) + 1
    except MediaStreamError:
        pass


async def publish(request):
    if request.content_type != "application/sdp":
        return web.Response(status=415, text="application/sdp is needed")
    connection = RTCPeerConnection()
    connection.on("track", lambda track: asyncio.ensure_future(count(track)))
    offer = RTCSessionDescription(sdp=await request.text(), type="offer")
    await connection.setRemoteDescription(offer)
    await connection.setLocalDescription(await connection.createAnswer())
    name = str(len(sessions) + 1)
    sessions[name] = connection
    return web.Response(
        status=201,
        headers={"Location": f"/session/{name}"},
        content_type="application/sdp",
        text=connection.localDescription.sdp,
    )


async def end(request):
    connection = sessions.pop(request.match_info["name"], None)
    if connection is None:
        return web.Response(status=404, text="no such session")
    await connection.close()
    print("deleted", flush=True)
    return web.Response()


async def main(address, port):
    app = web.Application()
    app.add_routes([web.post("/whip", publish), web.delete("/session/{name}", end)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.wait([ended], timeout=1)
        for kind, seen in counts.items():
            print(kind, seen, flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
