"""Signs random texts with the PyPI package standardwebhooks; one JSON object a line."""

import base64
import json
import random
import string
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook

# With a seed, so that the file can be made again.
chance = random.Random(20261121)
LETTERS = string.ascii_letters + string.digits + "_-"


def character() -> str:
    # The package signs texts: any character but a half of a surrogate pair.
    kind = chance.randrange(8)
    if kind < 4:
        return chr(chance.randrange(0x80))
    if kind < 6:
        return chr(chance.randrange(0x800))
    if kind < 7:
        return chr(chance.randrange(0xD800))
    return chr(0x10000 + chance.randrange(0x100000))


for _ in range(200):
    key = chance.randbytes(24 + chance.randrange(41))
    call = "".join(chance.choice(LETTERS) for _ in range(1 + chance.randrange(40)))
    timestamp = 1_600_000_000 + chance.randrange(400_000_000)
    body = "".join(character() for _ in range(chance.randrange(40)))
    secret = "whsec_" + base64.b64encode(key).decode()
    at = datetime.fromtimestamp(timestamp, tz=timezone.utc)
    signature = Webhook(secret).sign(call, at, body)
    encoded = base64.b64encode(body.encode()).decode()
    vector = {"signer": "pypi", "secret": secret, "id": call, "timestamp": timestamp, "body": encoded, "signature": signature}
    print(json.dumps(vector, separators=(",", ":")))
