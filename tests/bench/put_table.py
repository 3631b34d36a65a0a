"""Puts one app for every host in force on a proxy's control socket."""

import json
import socket
import struct
import time

# How long a proxy may take until its socket answers; under valgrind that is seconds.
START_S = 30


class Refused(Exception):
    """The proxy did not take the table."""


def call(path, request):
    frame = json.dumps({"version": 1, "request": request}).encode()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        stream.sendall(struct.pack(">I", len(frame)) + frame)
        head = stream.recv(4, socket.MSG_WAITALL)
        return json.loads(stream.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))


def put_table(path, address, certificate=None):
    """Routes every host to `address`; `certificate` is the paths of a chain and its key, for listeners with TLS."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            expected = call(path, "table")["table"]["generation"]
            break
        except OSError:
            if time.monotonic() > deadline:
                raise Refused(f"nothing answers on {path}") from None
            time.sleep(0.02)
    pool = {"targets": [{"id": "v1-0", "address": address}]}
    route = {"hosts": ["*"], "path_prefix": "/", "serving": "v1", "pools": {"v1": pool}}
    table = {"generation": expected + 1, "apps": {"bench": route}}
    if certificate:
        chain, key = certificate
        table["certificates"] = {"*": {"chain": chain, "key": key}}
    reply = call(path, {"apply": {"expected": expected, "table": table}})
    if "applied" not in reply:
        raise Refused(f"the table is refused: {json.dumps(reply)}")
