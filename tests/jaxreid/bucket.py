"""A bucket in memory: objects by name, over HTTP for TensorStore, and for what reads gs://.

gcsfs speaks to it by HTTP where it is installed; elsewhere a file system of fsspec stands for it,
which knows no more than a bucket does: no file that grows, no folder that can be made or renamed.
"""

import contextlib
import datetime
import http.server
import importlib.util
import io
import json
import re
import sys
import threading
import time
import urllib.parse

import fsspec
import pytest

NAME = "bucket"


class Store:
    """The objects.

    Attributes:
      objects: (content, generation, time of change) by name, without the bucket's own.
      uploads: names in the order in which they were written.
      reads: likewise, of those that were read.
    """

    def __init__(self):
        self.objects, self.uploads, self.reads = {}, [], []
        self.lock = threading.RLock()
        self._generation = 0
        self.refuses = None  # a PermissionError that each write raises

    def put(self, name, content):
        with self.lock:
            if self.refuses:
                raise self.refuses
            self._generation += 1
            self.objects[name] = (bytes(content), self._generation, time.time())
            self.uploads.append(name)
            return self._generation

    def get(self, name):
        with self.lock:
            self.reads.append(name)
            return self.objects[name][0]

    def below(self, prefix):
        """Names that begin so."""
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))


class FileSystem(fsspec.AbstractFileSystem):
    """What gcsfs makes of a bucket."""

    protocol = ("gs", "gcs")
    cachable = False
    store = None

    def _key(self, path):
        bucket, _, key = self._strip_protocol(path).partition("/")
        if bucket != NAME:
            raise FileNotFoundError(path)
        return key.rstrip("/")

    def info(self, path, **_):
        key = self._key(path)
        name = f"{NAME}/{key}".rstrip("/")
        if key in self.store.objects:
            content, _, changed = self.store.objects[key]
            return {"name": name, "size": len(content), "type": "file", "mtime": changed}
        if not key or self.store.below(f"{key}/"):
            return {"name": name, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **_):
        found = self.info(path)
        if found["type"] == "directory":
            key = self._key(path)
            prefix = f"{key}/" if key else ""
            heads = {n[len(prefix) :].partition("/")[0] for n in self.store.below(prefix)}
            entries = [self.info(f"{NAME}/{prefix}{head}") for head in sorted(heads)]
        else:
            entries = [found]
        return entries if detail else [entry["name"] for entry in entries]

    def _open(self, path, mode="rb", **_):
        if mode == "rb":
            if self._key(path) not in self.store.objects:
                raise FileNotFoundError(path)
            return io.BytesIO(self.store.get(self._key(path)))
        if mode != "wb":
            raise NotImplementedError(f"mode {mode!r}: an object is written once")
        return _Upload(self.store, self._key(path))

    def rm(self, path, recursive=False, **_):
        key = self._key(path)
        names = [name for name in [key] if name in self.store.objects]
        if recursive:
            names += self.store.below(f"{key}/")
        if not names:
            raise FileNotFoundError(path)
        for name in names:
            del self.store.objects[name]

    def mkdir(self, path, create_parents=True, **_):
        self._key(path)  # there are none

    def mv(self, path1, path2, **_):
        raise NotImplementedError("objects cannot be renamed")


class _Upload(io.BytesIO):
    def __init__(self, store, key):
        super().__init__()
        self._put = lambda content: store.put(key, content)

    def close(self):
        if not self.closed:
            self._put(self.getvalue())
        super().close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """As much of the JSON interface as TensorStore and gcsfs ask for."""

    protocol_version = "HTTP/1.1"
    store = None

    def log_message(self, *_):
        pass

    def _reply(self, status, body=b"", **headers):
        if isinstance(body, dict):
            body, headers["content_type"] = json.dumps(body).encode(), "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _asked(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        found = re.fullmatch(rf".*/b/{NAME}(?:/o(?:/(?P<key>.+))?)?/?", url.path)
        key = urllib.parse.unquote(found["key"]) if found and found["key"] else ""
        is_object = bool(found) and "/o" in url.path.rpartition(f"/b/{NAME}")[2]
        return found, is_object, key, query

    def _body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _described(self, key):
        content, generation, changed = self.store.objects[key]
        moment = datetime.datetime.fromtimestamp(changed, datetime.UTC)
        when = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": NAME,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "updated": when,
            "timeCreated": when,
            "mediaLink": f"{self.server.url}/download/storage/v1/b/{NAME}/o/"
            + urllib.parse.quote(key, safe="")
            + "?alt=media",
        }

    def _fails(self, key, query):
        """Whether a condition on the object's generation does not hold."""
        wanted = query.get("ifGenerationMatch")
        current = self.store.objects[key][1] if key in self.store.objects else 0
        return wanted is not None and int(wanted) != current

    def do_GET(self):  # noqa: N802
        found, is_object, key, query = self._asked()
        with self.store.lock:
            if not found:
                self._reply(404)
            elif not is_object:
                self._reply(200, {"kind": "storage#bucket", "name": NAME, "location": "US"})
            elif not key:
                self._reply(200, self._listed(query))
            elif key not in self.store.objects:
                self._reply(404, {"error": {"code": 404, "message": "no such object"}})
            elif self._fails(key, query):
                self._reply(412)
            elif query.get("alt") != "media":
                self._reply(200, self._described(key))
            else:
                self._media(key, query)

    def _media(self, key, query):
        generation = self.store.objects[key][1]
        if query.get("ifGenerationNotMatch") == str(generation):
            self._reply(304)
            return
        content, status, more = self.store.get(key), 200, {}
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", "")):
            size, status = len(content), 206
            first = int(asked[1]) if asked[1] else size - int(asked[2])
            last = min(int(asked[2]) + 1 if asked[1] and asked[2] else size, size)
            if first >= size:
                self._reply(416)
                return
            content = content[first:last]
            more["content_range"] = f"bytes {first}-{last - 1}/{size}"
        self._reply(status, content, x_goog_generation=generation, **more)

    def _listed(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, heads = [], set()
        for key in self.store.below(prefix):
            if key < query.get("startOffset", "") or key >= query.get("endOffset", "\U0010ffff"):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                heads.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                items.append(self._described(key))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(heads)}

    def do_POST(self):  # noqa: N802
        _, _, key, query = self._asked()
        body = self._body()
        if self.path.startswith("/resumable"):
            self._append(body)
            return
        if self.path.startswith("/batch"):
            self._batch(body)
            return
        kind = query.get("uploadType")
        if kind == "multipart":
            mark = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["content-type"])[1].encode()
            about, body = (
                part.partition(b"\r\n\r\n" if b"\r\n\r\n" in part else b"\n\n")[2]
                for part in body.split(b"--" + mark)[1:3]
            )
            name, body = json.loads(about)["name"], re.sub(rb"\r?\n\Z", b"", body)
        else:
            name = query.get("name") or json.loads(body)["name"]
        with self.store.lock:
            if self._fails(name, query):
                self._reply(412)
            elif kind == "resumable":
                place = f"{self.server.url}/resumable/{urllib.parse.quote(name, safe='')}"
                self._reply(200, Location=place)
            else:
                self._put(name, body)

    def _put(self, name, content):
        try:
            self.store.put(name, content)
        except PermissionError as error:
            self._reply(403, {"error": {"code": 403, "message": str(error)}})
        else:
            self._reply(200, self._described(name))

    def do_PUT(self):  # noqa: N802
        self._append(self._body())

    def _append(self, body):
        name = urllib.parse.unquote(self.path.rpartition("/")[2])
        with self.store.lock:
            kept = self.server.partly.setdefault(name, bytearray())
            kept += body
            asked = re.fullmatch(r"bytes (?:.*)/(\d+|\*)", self.headers["content-range"])
            if asked[1] == "*":
                self._reply(308, Range=f"bytes=0-{len(kept) - 1}")
            else:
                self._put(name, self.server.partly.pop(name))

    def do_DELETE(self):  # noqa: N802
        _, _, key, query = self._asked()
        with self.store.lock:
            if key not in self.store.objects:
                self._reply(404, {"error": {"code": 404, "message": "no such object"}})
            elif self._fails(key, query):
                self._reply(412)
            else:
                del self.store.objects[key]
                self._reply(204)

    def _batch(self, body):
        """Several deletions in one request, which is how gcsfs asks for them."""
        parts = []
        for number, url in enumerate(re.findall(rb"DELETE (\S+)", body), start=1):
            key = urllib.parse.unquote(url.decode().partition("/o/")[2].partition("?")[0])
            known = self.store.objects.pop(key, None)
            status = b"204 No Content" if known else b"404 Not Found"
            parts.append(
                b"--batch\r\nContent-Type: application/http\r\nContent-ID: <response-%d>\r\n\r\n"
                b"HTTP/1.1 %s\r\n\r\n\r\n" % (number, status)
            )
        page = b"".join(parts) + b"--batch--"
        self._reply(200, page, content_type="multipart/mixed; boundary=batch")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.partly = {}  # what came so far of an upload in pieces

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # gcsfs hangs up when it knows enough
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve():
    """A store that TensorStore and gs:// lead to while the context is open."""
    from etils.epath import backend, gpath

    from jaxreid import paths

    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = _Server(handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    caches = (
        backend.fsspec_backend._get_filesystem,
        gpath._is_tf_installed,
        paths._reads_buckets,
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
    patch.setenv("STORAGE_EMULATOR_HOST", server.url)
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    patch.setenv("EPATH_USE_TF", "false")
    if importlib.util.find_spec("gcsfs") is None:
        from orbax.checkpoint._src.path import gcs_utils

        double = type("Double", (FileSystem,), {"store": store})
        for name in FileSystem.protocol:
            patch.setitem(sys.modules["fsspec.registry"]._registry, name, double)
        # Orbax asks google-cloud-storage, which comes with gcsfs.
        patch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda _: False)
    for cache in caches:
        cache.cache_clear()
    try:
        yield store
    finally:
        patch.undo()
        for cache in caches:
            cache.cache_clear()
        server.shutdown()
        server.server_close()
