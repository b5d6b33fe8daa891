"""A web server for one folder, on this machine alone, in a process that ends with its owner's.

The child ends when `Serving` is left or when its owner ends, in whatever way: it reads from a pipe
whose other end only the owner has, and leaves as soon as that is closed. Jupyter's interrupt of a
cell goes to children, too; this one passes it over, so that the cell can be run again.
As a script, `python serving.py FOLDER`, this file is the child.
"""

from __future__ import annotations

import functools
import http.server
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

START_SECONDS = 30
ENDLESS = ".endless"  # a file of this name beside NAME: NAME is sent, and then zeros without an end


class Handler(http.server.SimpleHTTPRequestHandler):
    """GET of a file in the folder; silent."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.with_name(path.name + ENDLESS).exists():
            return super().do_GET()
        self.send_response(200)
        self.end_headers()  # no Content-Length: the client cannot know how much will come
        try:
            self.wfile.write(path.read_bytes())
            while True:
                self.wfile.write(bytes(65536))
        except OSError:  # the client has left
            self.close_connection = True


class Serving:
    """`with Serving(folder) as server:` serves the folder at `server.url` until the block ends.

    The port is a free one of the loopback device. `stop` ends the server early, as a lost link or
    a dead machine would; it may be called again. NotADirectoryError for what is no folder,
    RuntimeError if the child does not start.
    """

    def __init__(self, folder: str | os.PathLike):
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"{folder} is no folder: make it before it is served")
        self._child = subprocess.Popen(
            [sys.executable, "-S", __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        timer = threading.Timer(START_SECONDS, self._child.kill)
        timer.start()
        try:
            line = self._child.stdout.readline()
        except BaseException:
            self.stop()
            raise
        finally:
            timer.cancel()
        if not line:
            self.stop()
            raise RuntimeError(f"the server did not start within {START_SECONDS} s: run it again")
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        self._child.stdin.close()
        self._child.stdout.close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        if hasattr(self, "_child") and self.running:
            self.stop()


def _leave_with_owner() -> None:
    sys.stdin.read()  # returns when the owner closes its end, or is gone
    os._exit(0)


def main(folder: str) -> None:
    """The server's process: prints its port, serves the folder, and ends with its owner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_owner, daemon=True).start()
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
