"""An MCP server (sessions era, one tool, no checks) that writes its HTTP answers in awkward ways.

Every way is lawful (RFC 9112): `--way close` ends the connection with each answer and says so,
`--way http10` answers as HTTP/1.0 without a length, so that the end of the connection is the end of
the body, `--way split` sends a chunked event stream one byte at a time over its delicate parts,
`--way cr` ends event lines in CR CR, and puts a comment, a notification and a server request before
the answer. Prints `ready http://HOST:PORT/mcp`; `GET /count` answers JSON.
"""

import argparse
import asyncio
import itertools
import json

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
numbers = itertools.count(1)
count = {"sessions_given": 0, "sessions_open": 0, "unknown": 0, "calls": 0}
sessions = set()


def answer(message, session):
    """Status, result or error, and session id of the answer to one message."""
    method = message.get("method")
    if method == "initialize":
        session = f"s{next(numbers)}"
        sessions.add(session)
        count["sessions_given"] += 1
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "awkward", "version": "1"},
        }
        return 200, {"result": result}, session
    if session not in sessions:
        count["unknown"] += session is not None
        return (404 if session else 400), {"error": {"code": -32600, "message": "no session"}}, None
    if "id" not in message:
        return 202, None, None
    if method == "tools/call":
        count["calls"] += 1
        text = message["params"]["arguments"].get("text", "")
        return 200, {"result": {"content": [{"type": "text", "text": text}]}}, None
    if method == "tools/list":
        return 200, {"result": {"tools": [TOOL]}}, None
    if method == "ping":
        return 200, {"result": {}}, None
    return 200, {"error": {"code": -32601, "message": "no such method"}}, None


def events(text, way):
    if way != "cr":
        return f"event: message\r\ndata: {text}\r\n\r\n"
    notice = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
    request = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    return f": ping\r\rid: 1\rdata:\r\rdata:{notice}\r\rdata: {request}\r\rdata: {text}\rid: 2\r\r"


async def write(writer, way, status, body, session):
    reason = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found"}[status]
    head = [f"HTTP/1.{0 if way == 'http10' else 1} {status} {reason}"]
    if session:
        head.append(f"mCP-sESSION-iD:{session}")
    if way in ("close", "http10"):
        head.append("Content-Type: application/json")
        if way == "close":
            head += ["Connection: close", f"Content-Length: {len(body)}"]
        writer.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        await writer.drain()
        return
    head += ["content-type: text/event-stream", "Transfer-Encoding: chunked"]
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    if body:
        text = events(body, way).encode()
        cut = len(text) // 2
        for part in (text[:cut], text[cut:]):
            chunk = b"%x;name=value\r\n%s\r\n" % (len(part), part)
            pieces = [chunk] if way == "cr" else [chunk[:1], chunk[1:3], chunk[3:-2], b"\r", b"\n"]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
    writer.write(b"0\r\nTrailer: x\r\n\r\n")
    await writer.drain()


async def serve(reader, writer, way):
    try:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            fields = {}
            while (line := await reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                fields[name.strip().lower()] = value.strip()
            data = await reader.readexactly(int(fields.get("content-length", 0)))
            session = fields.get("mcp-session-id")
            if path == "/count":
                body = json.dumps(count | {"sessions_open": len(sessions)})
                await write(writer, "close", 200, body, None)
                break
            if method == "DELETE":
                sessions.discard(session)
                await write(writer, way, 200, "", None)
            else:
                message = json.loads(data)
                status, said, given = answer(message, session)
                body = ""
                if said is not None:
                    body = json.dumps({"jsonrpc": "2.0"} | said | {"id": message.get("id")})
                await write(writer, way, status, body, given)
            if way in ("close", "http10"):
                break
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", choices=["close", "http10", "split", "cr"], required=True)
    parser.add_argument("--host", default="127.0.0.1")
    args = parser.parse_args()
    server = await asyncio.start_server(
        lambda r, w: serve(r, w, args.way), args.host, 0, backlog=4096
    )
    print(f"ready http://{args.host}:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


asyncio.run(main())
