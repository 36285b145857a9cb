"""Endpoint handler and Space under load: `python -m benchmarks.serving`.

The handler behind Python's own web server, and the Space as its README starts it, each in a process of its own where
the package is not installed; 400 requests from 8 clients on loopback, after a warm-up.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from gradio_client import Client

from assocformer_hf.hub.create_space import create_space
from benchmarks.measure import report

MODEL = Path(__file__).parent.parent / "model_cards/assocformer-swin-tiny-scenes"
REQUESTS, CLIENTS, WARM_UP = 400, 8, 80
STARTS = 300  # seconds at most

SERVER = """
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import torch
sys.modules["assocformer_hf"] = None
sys.path.insert(0, sys.argv[1])
from handler import EndpointHandler
torch.set_num_threads(1)
endpoint = EndpointHandler(sys.argv[1])

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(endpoint(data)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def running_handler(folder: Path):
    """Address and process of the handler of a model folder."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/", process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def running_space(folder: Path):
    """Address and process of the Space of a folder, run as its README says, where the package is not installed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "uploads")}
    script = "import runpy, sys; sys.modules['assocformer_hf'] = None; runpy.run_path('app.py', run_name='__main__')"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {script}"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for(url, process, folder / "log.txt")
            yield url, process.pid
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen, log: Path):
    deadline = time.monotonic() + STARTS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Space does not answer at {url}:\n{log.read_text()}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)


def under_load(what: str, pid: int, request: Callable[[int, int], None]) -> dict:
    """Requests of all clients at once: how long they take, and the process's memory before and after."""

    def timed(client: int, count: int) -> list[float]:
        seconds = []
        for i in range(client, count, CLIENTS):
            started = time.perf_counter()
            request(client, i)
            seconds.append(time.perf_counter() - started)
        return seconds

    process = psutil.Process(pid)
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(timed, range(CLIENTS), [WARM_UP] * CLIENTS))
        before = process.memory_info().rss
        seconds = sum(clients.map(timed, range(CLIENTS), [REQUESTS] * CLIENTS), [])
    p50, p95 = 1000 * np.percentile(seconds, [50, 95])
    memory = {"MiB_before": before / 2**20, "MiB_after": process.memory_info().rss / 2**20}
    return {"what": what, "p50_ms": float(p50), "p95_ms": float(p95)} | memory


def handler_under_load(model: Path = MODEL) -> dict:
    """A tenth of the requests is refused, a quarter asks for explanations.

    Raises:
        RuntimeError: if an answer is not what it should be.
    """
    images = [base64.b64encode(path.read_bytes()).decode() for path in sorted((model / "samples").glob("*.jpg"))]
    with running_handler(model) as (url, pid):

        def ask(_: int, i: int):
            inputs = images[i % len(images)] if i % 10 else "http://169.254.169.254/"
            body = json.dumps({"inputs": inputs, "parameters": {"explain": i % 4 == 0}}).encode()
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
                answer = json.load(response)
            if not (isinstance(answer, list) if i % 10 else answer["error"]["code"] == "bad_image"):
                raise RuntimeError(f"request {i}: {answer}")

        return under_load("handler behind `http.server`", pid, ask)


def space_under_load(folder: Path, model: Path = MODEL) -> dict:
    """Visitors that tag pictures by the endpoint `tag`.

    Raises:
        RuntimeError: if an answer does not have all labels.
    """
    create_space(folder, str(model))
    images = [base64.b64encode(path.read_bytes()).decode() for path in sorted((model / "samples").glob("*.jpg"))]
    count = len(json.loads((model / "config.json").read_text())["id2label"])
    with running_space(folder) as (url, pid):
        visitors = [Client(url, verbose=False) for _ in range(CLIENTS)]

        def ask(client: int, i: int):
            rows = visitors[client].predict(images[i % len(images)], api_name="/tag")
            if len(rows) != count:
                raise RuntimeError(f"request {i}: {rows}")

        return under_load("Space, upload included", pid, ask)


def main():
    with tempfile.TemporaryDirectory() as folder:
        report("serving", [handler_under_load(), space_under_load(Path(folder))], "python -m benchmarks.serving")


if __name__ == "__main__":
    main()
