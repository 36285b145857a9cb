"""Downloads over loopback: resumed, verified, unpacked once."""

import hashlib
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from assocformer_hf.data.archives import OFFICIAL, Archive, download, fetch
from assocformer_hf.data.schema import DataError


@pytest.fixture
def server(tmp_path):
    """Serves the files in `served`, with ranges; `requests` logs.

    `breaks` names those it breaks off in the middle, and `unsized` those whose length it does not say.
    """
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = folder / self.path.lstrip("/")
            asked = self.headers.get("Range")
            web.requests.append((path.name, asked))
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if asked and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            if path.name not in web.unsized:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if path.name in web.breaks:
                web.breaks.remove(path.name)
                content = content[: len(content) // 2]
            self.wfile.write(content[start:])

        def log_message(self, *args):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.requests, web.breaks, web.unsized, web.folder = [], set(), set(), folder
    web.url = f"http://127.0.0.1:{web.server_port}"
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web
    web.shutdown()
    web.server_close()


def test_a_broken_download_goes_on_and_is_verified(server, tmp_path):
    content = bytes(range(256)) * 4000
    (server.folder / "data.bin").write_bytes(content)
    server.breaks.add("data.bin")
    archive = Archive(f"{server.url}/data.bin", hashlib.md5(content).hexdigest())
    with pytest.raises(DataError, match=r"data.bin: the download broke off \(512000 of 1024000 bytes\); start again"):
        download(archive, tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()
    assert download(archive, tmp_path / "data.bin").read_bytes() == content
    assert server.requests == [("data.bin", None), ("data.bin", "bytes=512000-")]
    assert download(archive, tmp_path / "data.bin").read_bytes() == content
    assert len(server.requests) == 2


def test_a_download_goes_on_from_a_server_that_does_not_say_how_much_is_left(server, tmp_path):
    content = bytes(range(256)) * 40
    (server.folder / "data.bin").write_bytes(content)
    server.unsized.add("data.bin")
    (tmp_path / "data.bin.part").write_bytes(content[:2000])
    archive = Archive(f"{server.url}/data.bin", hashlib.md5(content).hexdigest())
    assert download(archive, tmp_path / "data.bin").read_bytes() == content
    assert server.requests == [("data.bin", "bytes=2000-")]


def test_what_is_not_the_official_file_is_refused(server, tmp_path):
    (server.folder / "VOCtrainval_06-Nov-2007.tar").write_bytes(b"something else")
    _, archives = OFFICIAL["voc2007"]
    with pytest.raises(DataError, match="its MD5 sum is .*, not the official c52e279531787c972589f7e41ab4ae64"):
        fetch(archives, tmp_path, server.url)
    assert not list(tmp_path.glob("*.tar*"))
    with pytest.raises(DataError, match=r"annotations_trainval2014.zip: 404"):
        fetch(OFFICIAL["coco2014"][1], tmp_path, server.url)


def test_an_archive_that_is_there_is_verified_too(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"something else")
    archive = Archive("http://127.0.0.1:9/data.bin", hashlib.md5(b"content").hexdigest())
    with pytest.raises(DataError, match=r"data.bin: its MD5 sum is .*, not the official .*; remove or rename it"):
        download(archive, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == b"something else"


def test_a_file_that_is_there_is_not_replaced_by_another(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("1", "2", "3"):
            (tmp_path / "official").write_text(f"official {name}")
            archive.add(tmp_path / "official", f"Annotations/{name}.xml")
    official, folder = Archive("http://127.0.0.1:9/a.tar"), tmp_path / "Annotations"
    folder.mkdir()
    (folder / "1.xml").write_text("official 1")
    (folder / "2.xml").write_text("corrected by hand")
    with pytest.raises(DataError, match=r"2.xml: is there, and not as in a.tar; nothing was replaced: move it"):
        fetch([official], tmp_path)
    assert (folder / "2.xml").read_text() == "corrected by hand"
    assert {file.name for file in tmp_path.iterdir()} == {"a.tar", "official", "Annotations"}
    (folder / "2.xml").unlink()
    # What was unpacked when an earlier attempt was killed is unpacked anew.
    (tmp_path / ".a.tar.unpacking/Annotations").mkdir(parents=True)
    (tmp_path / ".a.tar.unpacking/Annotations/3.xml").write_text("offi")
    fetch([official], tmp_path)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {f"{i}.xml": f"official {i}" for i in "123"}
    assert not (tmp_path / ".a.tar.unpacking").exists()


def test_archives_are_unpacked_once_and_damaged_ones_named(server, tmp_path):
    with zipfile.ZipFile(server.folder / "a.zip", "w") as archive:
        archive.writestr("inside/file.txt", "content")
    fetch([Archive(f"{server.url}/a.zip")], tmp_path)
    assert (tmp_path / "inside/file.txt").read_text() == "content"
    (tmp_path / "a.zip").unlink()
    fetch([Archive(f"{server.url}/a.zip")], tmp_path)
    assert len(server.requests) == 1
    damaged = bytearray((server.folder / "a.zip").read_bytes())
    damaged[damaged.index(b"content")] ^= 1
    (server.folder / "b.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="b.zip: cannot be unpacked .*; remove it to download it again"):
        fetch([Archive(f"{server.url}/b.zip")], tmp_path)
