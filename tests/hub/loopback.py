"""A Hub on loopback: as much of the protocol as huggingface_hub needs to publish, list and load repositories.

Private repositories answer to the token only, uploads go through LFS by content, and a test can order faults.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "loopbackToken" * 3
LFS_FROM = 10_000  # bytes
LFS_SUFFIXES = (".safetensors", ".png")


@dataclass
class Repository:
    """Files and commits of a repository, of which only the newest is kept."""

    private: bool
    kind: str = "model"
    files: dict[str, bytes] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=lambda: [_sha1(b"initial commit")])


@dataclass
class Fault:
    """What befalls the next requests of a kind.

    Attributes:
        method: of the requests.
        path: regular expression that is found in their path.
        status: the answer; None drops the connection, for a GET in the middle of the content.
        times: how many requests it befalls.
        headers: of the answer.
        after: whether the request has its effect before the connection is dropped.
    """

    method: str
    path: str
    status: int | None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


class LoopbackHub(ThreadingHTTPServer):
    """The server; `requests` holds `METHOD path status` of all that came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.lock = threading.Lock()

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A Hub that is stopped at the end."""
    hub = LoopbackHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub
    routes = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/(?:model|space)s/(?P<repo>[^/]+/[^/]+)/preupload/[^/]+", "preupload"),
        ("POST", r"/api/(?:model|space)s/(?P<repo>[^/]+/[^/]+)/commit/[^/]+", "commit"),
        ("GET", r"/api/(?:model|space)s/(?P<repo>[^/]+/[^/]+)/tree/[^/]+(?:/(?P<folder>.+))?", "tree"),
        ("GET", r"/api/(?:model|space)s/(?P<repo>[^/]+/[^/]+)(?:/revision/[^/]+)?", "info"),
        ("POST", r"/(?:spaces/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
        ("GET", r"/(?:spaces/)?(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)", "resolve"),
        ("HEAD", r"/(?:spaces/)?(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)", "resolve"),
    )

    def log_message(self, *args):
        pass

    def answer(self):
        """One request: its fault, else its route, else 404."""
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.fault = self.server.take_fault(self.command, path)
        if self.fault and self.fault.status is not None:
            return self.reply(self.fault.status, b"<html>trouble</html>", self.fault.headers)
        if self.fault and self.command != "GET" and not self.fault.after:
            return self.drop(path)
        try:
            for method, pattern, name in self.routes:
                if method == self.command and (match := re.fullmatch(pattern, path)):
                    return getattr(self, name)(**match.groupdict())
            raise _Refused(404, "EntryNotFound", "no such page")
        except _Refused as error:
            return self.reply_json({"error": str(error)}, error.status, {"X-Error-Code": error.code})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def drop(self, path: str):
        self.server.requests.append(f"{self.command} {path} dropped")
        self.close_connection = True
        self.connection.close()

    def reply(self, status: int, content: bytes, headers: dict[str, str] | None = None):
        path = unquote(urlsplit(self.path).path)
        dropped = self.fault is not None and self.fault.status is None
        if dropped and self.fault.after:
            return self.drop(path)
        self.server.requests.append(f"{self.command} {path} {'dropped' if dropped else status}")
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "Date": formatdate(usegmt=True)} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if dropped else content)
        if dropped:
            self.wfile.flush()
            self.close_connection = True
        return None

    def reply_json(self, value, status: int = 200, headers: dict[str, str] | None = None):
        return self.reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    @property
    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def check_token(self):
        if not self.authorized:
            raise _Refused(401, "", "Invalid username or password.")

    def repository(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self.authorized):
            # As the Hub does: whether a private repository exists is no one's business.
            raise _Refused(404 if self.authorized else 401, "RepoNotFound", "Repository not found")
        return found

    def whoami(self):
        self.check_token()
        self.reply_json({"type": "user", "name": "org", "auth": {"accessToken": {"role": "write"}}, "orgs": []})

    def create(self):
        self.check_token()
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'org'}/{wanted['name']}"
        prefix = "spaces/" if wanted.get("type") == "space" else ""
        answer = {"url": f"{self.server.url}/{prefix}{name}"}
        if name in self.server.repositories:
            return self.reply_json(answer | {"error": "You already created this repo"}, 409)
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.server.repositories[name] = Repository(private, wanted.get("type") or "model")
        return self.reply_json(answer)

    def validate_yaml(self):
        header = re.match(r"---\n(.*?)\n---", json.loads(self.body)["content"], re.DOTALL)
        valid = header is not None and isinstance(yaml.safe_load(header[1]), dict)
        if not valid:
            raise _Refused(400, "", "no metadata")
        self.reply_json({"errors": [], "warnings": []})

    def preupload(self, repo: str):
        self.check_token()
        held = self.repository(repo)
        answers = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            lfs = file["size"] >= LFS_FROM or path.endswith(LFS_SUFFIXES)
            answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if path in held.files:
                answer["oid"] = _object_id(held, path)
            answers.append(answer)
        self.reply_json({"files": answers})

    def lfs_batch(self, repo: str):
        self.check_token()
        self.repository(repo)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.objects:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}
            objects.append(entry)
        self.reply_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "", "content and name differ")
        self.server.objects[oid] = self.body
        self.reply(200, b"")

    def commit(self, repo: str):
        self.check_token()
        held = self.repository(repo)
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                held.files[value["path"]] = base64.b64decode(value["content"])
                held.lfs.discard(value["path"])
            elif entry["key"] == "lfsFile":
                held.files[value["path"]] = self.server.objects[value["oid"]]
                held.lfs.add(value["path"])
            elif entry["key"] == "deletedFile":
                held.files.pop(value["path"])
        held.commits.append(_sha1(self.body + held.commits[-1].encode()))
        url = f"{self.server.url}/{repo}/commit/{held.commits[-1]}"
        self.reply_json({"commitUrl": url, "commitOid": held.commits[-1], "success": True})

    def info(self, repo: str):
        held = self.repository(repo)
        card = {}
        if header := re.match(r"---\n(.*?)\n---", held.files.get("README.md", b"").decode(), re.DOTALL):
            card = yaml.safe_load(header[1])
        siblings = [{"rfilename": path, "size": len(content)} for path, content in sorted(held.files.items())]
        answer = {"_id": "0", "id": repo, "modelId": repo, "sha": held.commits[-1], "private": held.private}
        answer |= {key: card.get(key) for key in ("pipeline_tag", "library_name", "tags")}
        self.reply_json(answer | {"cardData": card, "siblings": siblings, "gated": False, "downloads": 0, "likes": 0})

    def tree(self, repo: str, folder: str | None = None):
        held = self.repository(repo)
        prefix = f"{folder}/" if folder else ""
        below = [path for path in sorted(held.files) if path.startswith(prefix)]
        if folder and not below:
            raise _Refused(404, "EntryNotFound", f"{folder} does not exist")
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        entries = {}
        for path in below:
            head, slash, _ = path.removeprefix(prefix).partition("/")
            if slash:
                entries.setdefault(prefix + head, {"type": "directory", "path": prefix + head, "oid": _sha1(b"")})
            if not slash or recursive:
                content = held.files[path]
                entry = {"type": "file", "path": path, "size": len(content), "oid": _git_id(content)}
                if path in held.lfs:
                    entry["lfs"] = {
                        "oid": hashlib.sha256(content).hexdigest(),
                        "size": len(content),
                        "pointerSize": 130,
                    }
                entries[path] = entry
        self.reply_json(list(entries.values()))

    def resolve(self, repo: str, path: str):
        held = self.repository(repo)
        if path not in held.files:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        content = held.files[path]
        headers = {"X-Repo-Commit": held.commits[-1], "ETag": f'"{_object_id(held, path)}"', "Accept-Ranges": "bytes"}
        status = 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), int(match[2] or len(content) - 1)
            self.server.ranges.append(f"{path} {match[0]}")
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            status, content = 206, content[start : end + 1]
        self.reply(status, content, headers)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _git_id(content: bytes) -> str:
    return _sha1(b"blob %d\0" % len(content) + content)


def _object_id(held: Repository, path: str) -> str:
    content = held.files[path]
    return hashlib.sha256(content).hexdigest() if path in held.lfs else _git_id(content)
