"""A client on the official SDK that goes through two replicas of a proxy, and fails where it notices that there are two.

Usage: client.py (streamable|sse|rolling) URL-OF-A URL-OF-B
"""

import sys

import anyio

from replicas import Replicas
from rolling import rolling
from sse import sse
from streamable import streamable

SEQUENCES = {"streamable": streamable, "sse": sse, "rolling": rolling}
PATIENCE_S = 120


async def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in SEQUENCES:
        sys.exit(__doc__)
    sequence, a, b = sys.argv[1:]
    with anyio.fail_after(PATIENCE_S):
        await SEQUENCES[sequence](Replicas(a, b))
    print("done")


anyio.run(main)
