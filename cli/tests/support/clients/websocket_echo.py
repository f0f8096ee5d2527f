"""A WebSocket server and client (the websockets library).

usage: websocket_echo.py serve ADDRESS [PORT]   prints its port, echoes until it is killed
       websocket_echo.py talk URL [CA]     sends each line of standard input as a message, prints each answer as a line;
                                           at the end of input closes and prints `closed CODE`
"""

import asyncio
import ssl
import sys

import websockets


async def echo(socket, path=None):
    async for message in socket:
        await socket.send(message)


async def serve(address, port=0):
    async with websockets.serve(echo, address, int(port)) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def talk(url, ca=None):
    context = ssl.create_default_context(cafile=ca) if ca else None
    loop = asyncio.get_running_loop()
    async with websockets.connect(url, ssl=context, ping_interval=None) as socket:
        try:
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                await socket.send(line.rstrip("\n"))
                print(await socket.recv(), flush=True)
            await socket.close()
        except websockets.ConnectionClosed:
            pass
        print("closed", socket.close_code, flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serve(*sys.argv[2:]))
else:
    asyncio.run(talk(*sys.argv[2:]))
