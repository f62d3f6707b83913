"""Downloading BAIR's archive: verified, resumed after an interruption, and only records unpacked."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from worldmodel.data.bair import download as module
from worldmodel.data.bair.download import fetch_bair
from worldmodel.errors import OutsideError
from worldmodel.training.cli.main import main

RECORDS = {
    f"softmotion30_44k/{name}": name.encode() * 400
    for name in ("test/traj_0_to_255.tfrecords", "train/traj_0_to_255.tfrecords")
}


def make_tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def served(monkeypatch):
    """A server for a small archive; `gives` limits the bytes it sends, `asked` records the requests."""
    content = make_tar(RECORDS | {"softmotion30_44k/../../evil": b"x", "readme.txt": b"x"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            server.asked.append(wanted)
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.end_headers()
            self.wfile.write(content[first : first + server.gives])

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.gives, server.asked = len(content), []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{server.server_port}/archive.tar")
    monkeypatch.setattr(module, "SIZE", len(content))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(content).hexdigest())
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files_under(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_records_are_unpacked_and_nothing_else(tmp_path, served):
    folder = tmp_path / "a" / "raw"
    assert fetch_bair(folder) == folder
    assert files_under(tmp_path / "a") == {f"raw/{name}": content for name, content in RECORDS.items()}
    fetch_bair(folder)
    assert len(served.asked) == 1  # complete: no second request


def test_an_interrupted_download_resumes(tmp_path, served):
    served.gives = 1000
    with pytest.raises(OutsideError, match=r"ended after 1,000 of .* Run the command again"):
        fetch_bair(tmp_path)
    served.gives = 10**6
    fetch_bair(tmp_path)
    assert served.asked == [None, "bytes=1000-"] and files_under(tmp_path) == RECORDS


def test_interrupted_unpacking_resumes(tmp_path, served, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        real = module.atomic_write
        patch.setattr(module, "atomic_write", lambda p: real(p) if "test" in str(p.parent.name) else interrupt())
        fetch_bair(tmp_path)
    assert (tmp_path / "archive.tar").exists()
    fetch_bair(tmp_path)
    assert files_under(tmp_path) == RECORDS and len(served.asked) == 1


def interrupt():
    raise KeyboardInterrupt


def test_another_file_is_refused_and_deleted(tmp_path, served, monkeypatch):
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"wanted .* bytes with 0000"):
        fetch_bair(tmp_path)
    assert files_under(tmp_path) == {}


def test_an_unreachable_server_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/archive.tar")
    with pytest.raises(OutsideError, match=r"could not be downloaded: .*Run the command again"):
        fetch_bair(tmp_path)


def test_nothing_is_downloaded_unless_asked_for(tmp_path, served, capsys):
    assert main(["import-bair", str(tmp_path / "raw"), "--out", str(tmp_path / "store")]) == 2
    assert served.asked == [] and not (tmp_path / "raw").exists()
    assert main(["import-bair", str(tmp_path / "raw"), "--out", str(tmp_path / "store"), "--download"]) == 2
    assert len(served.asked) == 1  # but the records of this archive are invalid
    assert "wrong CRC of the record's length" in capsys.readouterr().err
