"""asyncio_peer.py server PORT; asyncio_peer.py client PORT SECONDS prints round trips a second."""
import asyncio
import signal
import sys
import time

CONNECTIONS, SIZE = 20, 64


async def echo(reader, writer):
    try:
        while True:
            writer.write(await reader.readexactly(SIZE))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port):
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    try:
        await server.serve_forever()
    except asyncio.CancelledError:
        pass


async def ask(port, end):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count, message = 0, bytes(SIZE)
    while time.monotonic() < end:
        writer.write(message)
        await reader.readexactly(SIZE)
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


async def measure(port, seconds):
    start = time.monotonic()
    counts = await asyncio.gather(*(ask(port, start + seconds) for _ in range(CONNECTIONS)))
    print("figure", sum(counts) / (time.monotonic() - start))


if sys.argv[1] == "server":
    asyncio.run(serve(int(sys.argv[2])))
else:
    asyncio.run(measure(int(sys.argv[2]), float(sys.argv[3])))
