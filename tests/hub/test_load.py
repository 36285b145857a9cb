"""Endpoint handler and Space under load: `pytest -m slow -s tests/hub/test_load.py` prints the figures."""

import base64
import json
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

from assocformer_hf.hub.create_space import create_space
from tests.hub.test_space import SCENES, running_space

REQUESTS, CLIENTS, WARM_UP = 400, 8, 80
MAX_GROWTH = 30  # MiB
SAMPLES = sorted((SCENES / "samples").glob("*.jpg"))

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


def resident(pid: int) -> float:
    """Memory of a process in MiB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def measure(name: str, pid: int, request):
    """400 requests from 8 clients after a warm-up: no error, no growth, and how long they take."""

    def timed(client: int, count: int) -> list[float]:
        seconds = []
        for i in range(client, count, CLIENTS):
            started = time.perf_counter()
            request(client, i)
            seconds.append(time.perf_counter() - started)
        return seconds

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(timed, range(CLIENTS), [WARM_UP] * CLIENTS))
        before = resident(pid)
        started = time.perf_counter()
        seconds = sum(clients.map(timed, range(CLIENTS), [REQUESTS] * CLIENTS), [])
        total = time.perf_counter() - started
    after = resident(pid)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    print(
        f"\n{name}: {REQUESTS} requests from {CLIENTS} clients in {total:.1f} s, p50 {p50:.0f} ms, p95 {p95:.0f} ms, "
        f"memory {before:.0f} MiB before and {after:.0f} MiB after"
    )
    assert after - before < MAX_GROWTH


@pytest.mark.slow
def test_the_handler_under_load():
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(SCENES)], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        images = [base64.b64encode(path.read_bytes()).decode() for path in SAMPLES]

        def ask(_: int, i: int):
            inputs = images[i % len(images)] if i % 10 else "http://169.254.169.254/"  # some are refused
            body = json.dumps({"inputs": inputs, "parameters": {"explain": i % 4 == 0}}).encode()
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
                answer = json.load(response)
            assert isinstance(answer, list) if i % 10 else answer["error"]["code"] == "bad_image", (i, answer)

        measure("handler", process.pid, ask)
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_the_space_under_load(tmp_path):
    create_space(tmp_path, str(SCENES))
    with running_space(tmp_path) as (url, pid):
        visitors = [Client(url, verbose=False) for _ in range(CLIENTS)]
        images = [base64.b64encode(path.read_bytes()).decode() for path in SAMPLES]

        def ask(client: int, i: int):
            rows = visitors[client].predict(images[i % len(images)], api_name="/tag")
            assert len(rows) == 20

        measure("Space", pid, ask)
