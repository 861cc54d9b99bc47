"""A server that speaks S3 on the loopback, whose answers can be made to fail, be slow, or not come.

python tests/faulty_s3.py PORT     # a process of its own, which can be killed
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
Fault = Callable[[str, str], int | None]
"""Called with method and path before a request is served: returns a status to answer with in its place, or None."""


@dataclass
class S3Server:
    """The server, with one bucket `results`.

    Attributes:
        url: its address.
        requests: method and path of all requests so far.
        fault: what happens to a request before it is served.
        after: called with method and path when a request was served and its answer is not sent yet; returns a status to
            answer with in place of it.
        ignores_conditions: whether it puts an object whatever lies there, as some servers do.
    """

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault | None = None
    after: Fault | None = None
    ignores_conditions: bool = False

    def objects(self, prefix: str = "") -> list[str]:
        """The keys in the bucket."""
        found = self.client.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket="results", Key=key)["Body"].read()

    @cached_property
    def client(self):
        names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **names)

    def reset(self) -> None:
        """Empty the bucket, without faults."""
        self.fault = self.after = None
        self.ignores_conditions = False
        for key in self.objects():
            self.client.delete_object(Bucket="results", Key=key)
        self.requests.clear()


def application(server: S3Server):
    """The server as a WSGI application. Requests are served one by one: moto looks and puts in two steps."""
    serve, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one(environ: dict, start: Callable) -> object:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        server.requests.append((method, path))
        if server.ignores_conditions:
            environ = {
                key: value for key, value in environ.items() if key not in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")
            }
        status = server.fault(method, path) if server.fault else None
        if status is None:
            with turn:
                answer = list(serve(environ, later := _Later()))
            status = server.after(method, path) if server.after else None
            if status is None:
                start(*later.arguments)
                return answer
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(f"{status} Fault", [("Content-Type", "text/plain")])
        return [b"fault"]

    return one


class _Later:
    """Keeps what an application wants to start its answer with."""

    def __call__(self, *arguments: object) -> None:
        self.arguments = arguments


@contextmanager
def serving() -> Iterator[S3Server]:
    """A server in a thread of this process."""
    server = S3Server()
    listener = make_server("127.0.0.1", 0, application(server), threaded=True)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{listener.server_port}"
    server.client.create_bucket(Bucket="results")
    try:
        yield server
    finally:
        listener.shutdown()


def slow(seconds: float, method: str) -> Fault:
    """A fault: requests of this method take so long."""

    def wait(got: str, path: str) -> None:
        if got == method:
            time.sleep(seconds)

    return wait


if __name__ == "__main__":
    own = S3Server(f"http://127.0.0.1:{sys.argv[1]}")
    listener = make_server("127.0.0.1", int(sys.argv[1]), application(own), threaded=True)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    own.client.create_bucket(Bucket="results")
    print("serving", flush=True)
    threading.Event().wait()
