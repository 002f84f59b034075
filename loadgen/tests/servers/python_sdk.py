"""An echo tool on the official Python SDK (1.x or 2.x), served by uvicorn as its users serve it.

What the SDK does is not changed. A wrapper around the application counts what passes, so that a
client's figures can be held against the server's own: `GET /count` answers JSON. Prints
`ready http://HOST:PORT/mcp` once it listens. With `--tls` the same is spoken inside TLS, and a second
address in clear gives the counts. 1.x also speaks WebSocket, on `/ws`, with `--sse` HTTP+SSE (2024-11-05)
on `/sse`, and with `--retry` it numbers its events, so that answers can be resumed.
"""

import argparse
import collections
import gc
import json
import logging
import http.server
import socket
import ssl
import threading
import time

import anyio
import uvicorn


def application(args):
    """The SDK's own application, and how many sessions it keeps."""
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:
        from mcp.server.fastmcp import FastMCP

        more = {"event_store": events(), "retry_interval": args.retry} if args.retry else {}
        server = FastMCP(
            "conformance",
            json_response=args.json,
            stateless_http=args.stateless,
            log_level="ERROR",
            **more,
        )
        demanding(server)
        options = {}
    else:
        server = MCPServer("conformance", log_level="ERROR")
        options = {"json_response": args.json, "stateless_http": args.stateless}
        if args.max_sessions:
            options["max_sessions"] = args.max_sessions
        if args.session_ttl:
            options["session_idle_timeout"] = args.session_ttl

    @server.tool()
    def echo(text: str) -> str:
        """Return the text unchanged"""
        return text

    if args.sse:
        return server.sse_app(), None, lambda: 0
    app = server.streamable_http_app(**options)
    return app, over_websocket(server), lambda: len(server.session_manager._server_instances)


def demanding(server):
    """Tools that want something of the client before they answer (1.x)."""
    from mcp import McpError
    from mcp.server.fastmcp import Context
    from mcp.shared.message import ServerMessageMetadata
    from mcp.types import EmptyResult, PingRequest, SamplingMessage, ServerRequest, TextContent

    @server.tool()
    async def ask(ctx: Context) -> str:
        """Ping the client, ask it for a sample, and tell it of the progress"""
        # On the stream of this answer, for there may be no other.
        here = ServerMessageMetadata(related_request_id=ctx.request_id)
        await ctx.session.send_request(ServerRequest(PingRequest()), EmptyResult, metadata=here)
        await ctx.info("asking")
        text = TextContent(type="text", text="hello")
        try:
            await ctx.session.create_message(
                [SamplingMessage(role="user", content=text)],
                max_tokens=1,
                related_request_id=ctx.request_id,
            )
        except McpError as error:
            return f"declined: {error.error.code}"
        return "sampled"

    @server.tool()
    async def broken(ctx: Context) -> str:
        """Close the stream that the answer belongs to, and answer a little later"""
        await ctx.close_sse_stream()
        await anyio.sleep(0.05)
        return "resumed"


def events():
    """A store of events in memory, as the SDK's own examples have it (1.x)."""
    from mcp.server.streamable_http import EventMessage, EventStore

    class InMemory(EventStore):
        def __init__(self):
            self.all = []

        async def store_event(self, stream_id, message):
            self.all.append((stream_id, message))
            return str(len(self.all))

        async def replay_events_after(self, last_event_id, send_callback):
            last = int(last_event_id)
            stream = self.all[last - 1][0]
            for number, (of, message) in enumerate(self.all[last:], last + 1):
                if of == stream and message is not None:
                    await send_callback(EventMessage(message, str(number)))
            return stream

    return InMemory()


def over_websocket(server):
    """The SDK's WebSocket transport as an application, where it has one (1.x)."""
    try:
        from mcp.server.websocket import websocket_server
    except ImportError:
        return None
    inner = server._mcp_server

    async def serve(scope, receive, send):
        async with websocket_server(scope, receive, send) as (reads, writes):
            await inner.run(reads, writes, inner.create_initialization_options())

    return serve


def longest_collection():
    """What gives the longest time for which the garbage collector stopped everything, ms."""
    started, longest = [0.0], [0.0]

    def watch(phase, _):
        if phase == "start":
            started[0] = time.perf_counter()
        else:
            longest[0] = max(longest[0], (time.perf_counter() - started[0]) * 1e3)

    gc.callbacks.append(watch)
    return lambda: longest[0]


def counted(app, websocket, sessions_open):
    """The application with a count of requests by method and status, of ids given, of WebSocket
    closes by code, and `/count`; and what gives those counts. They hold the longest pause for
    garbage collection too, in which every session waits."""
    answers, given, closes = collections.Counter(), set(), collections.Counter()
    pause_ms_max = longest_collection()

    def counts():
        body = {"sessions_open": sessions_open(), "sessions_given": len(given)}
        body["gc_pause_ms_max"] = round(pause_ms_max())
        return json.dumps(body | {"answers": dict(answers), "closes": dict(closes)}).encode()

    async def count(scope, receive, send):
        if scope["type"] == "websocket" and websocket:

            async def heard():
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    closes[message["code"]] += 1
                return message

            return await websocket(scope, heard, send)
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if scope["path"] == "/count":
            start = {"type": "http.response.start", "status": 200}
            await send(start | {"headers": [(b"content-type", b"application/json")]})
            return await send({"type": "http.response.body", "body": counts()})

        async def watched(message):
            if message["type"] == "http.response.start":
                answers[f"{scope['method']} {message['status']}"] += 1
                fields = dict(message["headers"])
                if message["status"] == 200 and b"mcp-session-id" in fields:
                    given.add(fields[b"mcp-session-id"])
            await send(message)

        await app(scope, receive, watched)

    return count, counts


def in_clear(host, counts):
    """A port that gives the counts in clear."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(counts())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="answer with JSON where that suffices")
    parser.add_argument("--stateless", action="store_true", help="keep no sessions")
    parser.add_argument("--max-sessions", type=int, help="2.x only")
    parser.add_argument("--session-ttl", type=float, help="seconds; 2.x only")
    parser.add_argument("--sse", action="store_true", help="HTTP+SSE on /sse; 1.x only")
    parser.add_argument("--retry", type=int, help="number events; ms to a resumption; 1.x only")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="speak inside TLS")
    parser.add_argument("--client-ca", help="want a certificate that this one signed of clients")
    args = parser.parse_args()
    six = ":" in args.host
    listener = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((args.host, args.port))
    listener.listen(4096)
    logging.disable(logging.CRITICAL if args.tls else logging.WARNING)
    app, counts = counted(*application(args))
    options = {}
    if args.tls:
        options = {"ssl_certfile": args.tls[0], "ssl_keyfile": args.tls[1]}
    if args.client_ca:
        options |= {"ssl_ca_certs": args.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    # keep-alive stays at uvicorn's default of 5 s: clients have to live with it.
    config = uvicorn.Config(app, log_level="error", access_log=False, **options)
    host = f"[{args.host}]" if six else args.host
    at = f"{host}:{listener.getsockname()[1]}"
    more = f" http://127.0.0.1:{in_clear('127.0.0.1', counts)}/" if args.tls else ""
    s = "s" if args.tls else ""
    path = "sse" if args.sse else "mcp"
    print(f"ready http{s}://{at}/{path} ws{s}://{at}/ws{more}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


main()
