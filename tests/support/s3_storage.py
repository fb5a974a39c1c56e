"""An S3 server (moto) as a process of its own: `mock_aws` in another test empties every server of its process.

`python -m tests.support.s3_storage` prints its port and serves until it is killed.
"""

from __future__ import annotations

import threading

from moto.server import ThreadedMotoServer


def main() -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
