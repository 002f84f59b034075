"""An echo tool on the official Python SDK (1.x or 2.x), served by uvicorn as its users serve it.

What the SDK does is not changed. A wrapper around the application counts what passes, so that a
client's figures can be held against the server's own: `GET /count` answers JSON. Prints
`ready http://HOST:PORT/mcp` once it listens.
"""

import argparse
import collections
import json
import logging
import socket

import uvicorn


def application(args):
    """The SDK's own application, and how many sessions it keeps."""
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:
        from mcp.server.fastmcp import FastMCP

        server = FastMCP(
            "conformance", json_response=args.json, stateless_http=args.stateless, log_level="ERROR"
        )
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

    app = server.streamable_http_app(**options)
    return app, lambda: len(server.session_manager._server_instances)


def counted(app, sessions_open):
    """The application with a count of requests by method and status, of ids given, and `/count`."""
    answers, given = collections.Counter(), set()

    async def count(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if scope["path"] == "/count":
            body = {"sessions_open": sessions_open(), "sessions_given": len(given)}
            body["answers"] = dict(answers)
            start = {"type": "http.response.start", "status": 200}
            await send(start | {"headers": [(b"content-type", b"application/json")]})
            return await send({"type": "http.response.body", "body": json.dumps(body).encode()})

        async def watched(message):
            if message["type"] == "http.response.start":
                answers[f"{scope['method']} {message['status']}"] += 1
                fields = dict(message["headers"])
                if message["status"] == 200 and b"mcp-session-id" in fields:
                    given.add(fields[b"mcp-session-id"])
            await send(message)

        await app(scope, receive, watched)

    return count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="answer with JSON where that suffices")
    parser.add_argument("--stateless", action="store_true", help="keep no sessions")
    parser.add_argument("--max-sessions", type=int, help="2.x only")
    parser.add_argument("--session-ttl", type=float, help="seconds; 2.x only")
    args = parser.parse_args()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((args.host, args.port))
    listener.listen(4096)
    logging.disable(logging.WARNING)
    app, sessions_open = application(args)
    # keep-alive stays at uvicorn's default of 5 s: clients have to live with it.
    config = uvicorn.Config(counted(app, sessions_open), log_level="error", access_log=False)
    print(f"ready http://{args.host}:{listener.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


main()
