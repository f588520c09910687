"""A local web server that answers rightly, in part, slowly or not at all, and archives to serve."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.faults`` is a list of what goes wrong with the next answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        fault = server.faults.pop(0) if server.faults else None
        server.requests.append((self.path, self.headers.get("Range")))
        data = server.files.get(self.path.lstrip("/"))
        if data is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and fault != "no resume":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(1.5 if fault == "stall" else 0)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "slow":
            for i in range(0, len(body), 2**16):
                self.wfile.write(body[i : i + 2**16])
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def local_server():
    """A server on 127.0.0.1 at ``url``: set ``files`` (name: bytes) and ``faults``, read ``requests`` (path, range)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        http.files, http.faults, http.requests = {}, [], []
        http.daemon_threads = True
        http.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def zip_of(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tar_of(mode, **files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("valid/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return data.getvalue()
