"""A stand-in of the hub: the HTTP calls that huggingface_hub makes to look up, read, make and write models.

It answers as the hub is documented to: codes, JSON, and the headers X-Error-Code, X-Repo-Commit and ETag. Repositories
are dicts in memory; weights go the way of Git LFS.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import yaml

TOKENS = {"hf_alice": "alice", "hf_bob": "bob", "hf_reader": ""}
"""Token -> the owner that it may write for; hf_reader may read only, and everything."""


@dataclasses.dataclass
class Repository:
    """A model on the hub."""

    private: bool
    files: dict[str, bytes]
    commits: int = 0
    gated: bool = False

    @property
    def sha(self) -> str:
        """Of the newest commit."""
        state = repr(sorted((name, hashlib.sha1(body).hexdigest()) for name, body in self.files.items()))
        return hashlib.sha1(f"{self.commits} {state}".encode()).hexdigest()


@dataclasses.dataclass
class Hub:
    """What a running stand-in holds, and what was asked of it."""

    address: str = ""
    repositories: dict[str, Repository] = dataclasses.field(default_factory=dict)
    large: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Uploaded files by their SHA-256."""
    asked: list[str] = dataclasses.field(default_factory=list)
    """`METHOD path` of each call."""
    broken: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    """Part of a path -> the status and the message with which it is refused."""


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.code = status, code


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A stand-in that answers on a free port of this machine until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        body = self._body()
        self.state.asked.append(f"{self.command} {path}")
        try:
            for part, (status, message) in self.state.broken.items():
                if part in f"{self.command} {path}":
                    raise Refused(status, message, "RepoNotFound" if status == 404 else "")
            for pattern, answer in _CALLS:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    return self._send(200, *answer(self, body, *match.groups()))
            raise Refused(404, f"no such call: {path}")
        except Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(refused.status, {"error": str(refused)}, headers | {"X-Error-Message": str(refused)})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(raw))} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    # --- Who asks ----------------------------------------------------------------------------------------------------

    def _token(self) -> str:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        return token

    def _readable(self, name: str) -> Repository:
        """As on the hub: who may not know of a repository is told that there is none, without a token by a 401."""
        token, found = self._token(), self.state.repositories.get(name)
        hidden = found and found.private and token != "hf_reader" and TOKENS.get(token) != name.partition("/")[0]
        if found is None or hidden:
            raise Refused(404 if token else 401, "Repository not found", "RepoNotFound")
        if found.gated:
            raise Refused(403, "Access to this model is restricted", "GatedRepo")
        return found

    def _writable(self, name: str) -> Repository:
        found = self._readable(name)
        if TOKENS.get(self._token()) != name.partition("/")[0]:
            raise Refused(403, "You do not have the right to write to this repository")
        return found

    # --- Looking up and reading --------------------------------------------------------------------------------------

    def info(self, body: bytes, name: str, revision: str | None = None) -> tuple[Any]:
        found = self._readable(name)
        if revision not in (None, "main", found.sha):
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        siblings = [{"rfilename": file} for file in found.files]
        return ({"id": name, "sha": found.sha, "private": found.private, "siblings": siblings},)

    def tree(self, body: bytes, name: str, revision: str) -> tuple[Any]:
        files = self._readable(name).files
        return ([{"type": "file", "path": n, "size": len(b), "oid": _git_id(b)} for n, b in files.items()],)

    def file(self, body: bytes, name: str, revision: str, path: str) -> tuple[Any, dict[str, str]]:
        found = self._readable(name)
        if path not in found.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        return found.files[path], {"ETag": f'"{_git_id(found.files[path])}"', "X-Repo-Commit": found.sha}

    # --- Making and writing ------------------------------------------------------------------------------------------

    def create(self, body: bytes) -> tuple[Any]:
        asked, token = json.loads(body), self._token()
        owner = asked.get("organization") or TOKENS.get(token, "")
        name = f"{owner}/{asked['name']}"
        if not token:
            raise Refused(401, "Invalid username or password.")
        if TOKENS[token] != owner:
            raise Refused(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        if name in self.state.repositories:
            raise Refused(409, "You already created this model repo")
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.state.repositories[name] = Repository(private, {".gitattributes": b"*.safetensors filter=lfs\n"})
        return ({"url": f"{self.state.address}/{name}", "name": name},)

    def validate(self, body: bytes) -> tuple[Any]:
        yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        return ({"errors": [], "warnings": []},)

    def preupload(self, body: bytes, name: str, revision: str) -> tuple[Any]:
        files = self._writable(name).files
        modes = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": _git_id(files[each["path"]]) if each["path"] in files else None,
            }
            for each in json.loads(body)["files"]
        ]
        return ({"files": modes},)

    def batch(self, body: bytes, name: str) -> tuple[Any]:
        self._writable(name)
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.state.address}/large/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        return ({"transfer": "basic", "objects": objects},)

    def large(self, body: bytes, oid: str) -> tuple[Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.large[oid] = body
        return (b"",)

    def commit(self, body: bytes, name: str, revision: str) -> tuple[Any]:
        found = self._writable(name)
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                found.files[value["path"]] = self.state.large[value["oid"]]
        found.commits += 1
        address = f"{self.state.address}/{name}/commit/{found.sha}"
        return ({"success": True, "commitOid": found.sha, "commitUrl": address, "hookOutput": ""},)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = r"([^/ ]+/[^/ ]+?)"
_CALLS = (
    (rf"(?:GET|HEAD) /api/models/{_NAME}", _Handler.info),
    (rf"GET /api/models/{_NAME}/revision/(.+)", _Handler.info),
    (rf"GET /api/models/{_NAME}/tree/([^/]+)", _Handler.tree),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _Handler.file),
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT /large/(.+)", _Handler.large),
    (rf"POST /api/models/{_NAME}/commit/(.+)", _Handler.commit),
)
