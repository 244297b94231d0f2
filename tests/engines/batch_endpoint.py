"""A server with the batch interface of OpenAI: files, batches, replies in files."""

import json
import threading
from collections.abc import Callable
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from engines.endpoint import completion


def echo(body: dict) -> tuple[int, dict]:
    """A reply that repeats the question."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    text = f"re: {body['messages'][-1]['content']}"
    return 200, completion(text) | {"usage": usage, "model": "some-model-1"}


class BatchServer(ThreadingHTTPServer):
    """Answers the rows of a batch by `answer(body)`: (status, body), or None for a row that the
    server leaves out.

    A batch is at its end after `looks` looks. `ends(number of the batch)` says how; "failed" gives
    `failure` as the reason. `fault(method, path, number)`, called with the number of calls before
    it, may return a status that is sent instead of the answer, after everything was done.
    """

    daemon_threads = True

    def __init__(
        self,
        answer: Callable[[dict], tuple[int, dict] | None] = echo,
        looks: int = 2,
        ends: Callable[[int], str] = lambda _: "completed",
        failure: dict | None = None,
        fault: Callable[[str, str, int], int | None] = lambda *_: None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), BatchHandler)
        self.answer, self.looks, self.ends, self.fault = answer, looks, ends, fault
        self.failure = failure
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.seen: dict[str, int] = {}  # looks at each batch
        self.calls: list[tuple[str, str]] = []
        self.asked: list[str] = []  # the questions of all rows of all batches: what is paid
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""

    def rows(self, file: str) -> list[dict]:
        return [json.loads(line) for line in self.files[file].splitlines()]

    def create(self, request: dict) -> dict:
        assert request["endpoint"] == "/v1/chat/completions"
        assert request["completion_window"] == "24h"
        id = f"batch_{len(self.batches)}"
        rows = self.rows(request["input_file_id"])
        assert len({row["custom_id"] for row in rows}) == len(rows)
        self.asked += [row["body"]["messages"][-1]["content"] for row in rows]
        self.batches[id] = {"id": id, "status": "validating", **request}
        self.seen[id] = 0
        return self.batches[id]

    def look(self, id: str) -> dict:
        batch = self.batches[id]
        self.seen[id] += 1
        if self.seen[id] >= self.looks and batch["status"] in ("validating", "in_progress"):
            batch["status"] = self.ends(int(id.removeprefix("batch_")))
            if batch["status"] == "failed":
                batch["errors"] = {"object": "list", "data": [self.failure]}
            else:
                self.write(id, batch)
        return batch

    def write(self, id: str, batch: dict) -> None:
        """The two files of a batch: replies, and errors."""
        done, failed = [], []
        for row in self.rows(batch["input_file_id"]):
            answer = self.answer(row["body"])
            line = {"id": "row", "custom_id": row["custom_id"], "response": None, "error": None}
            if answer is None:
                error = {"code": "batch_expired", "message": "This request could not be executed"}
                failed.append(line | {"error": error})
                continue
            status, body = answer
            line["response"] = {"status_code": status, "request_id": "r", "body": body}
            (done if status == 200 else failed).append(line)
        for name, lines in (("output", done), ("error", failed)):
            if lines:
                batch[f"{name}_file_id"] = f"{id}-{name}"
                data = "".join(json.dumps(line) + "\n" for line in reversed(lines))
                self.files[f"{id}-{name}"] = data.encode()


class BatchHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        with server.lock:
            if self.path == "/v1/files":
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                parts = BytesParser().parsebytes(head + data).get_payload()
                fields = {
                    part.get_param("name", header="content-disposition"): part.get_payload(
                        decode=True
                    )
                    for part in parts
                }
                assert fields["purpose"] == b"batch"
                name = f"file-{len(server.files)}"
                server.files[name] = fields["file"]
                self.send({"id": name, "object": "file"})
            elif self.path == "/v1/batches":
                self.send(server.create(json.loads(data)))
            elif self.path.endswith("/cancel"):
                server.batches[self.path.split("/")[-2]]["status"] = "cancelled"
                self.send({})
            else:
                self.send({"error": {"message": "no such route"}}, 404)

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            path = self.path.removeprefix("/v1/").partition("?")[0].split("/")
            if path == ["batches"]:
                self.send({"object": "list", "data": list(server.batches.values())[::-1]})
            elif path[0] == "batches" and path[1] in server.batches:
                self.send(server.look(path[1]))
            elif path[0] == "files" and path[-1] == "content" and path[1] in server.files:
                self.send(server.files[path[1]])
            else:
                self.send({"error": {"message": f"no such {path[0]}"}}, 404)

    def send(self, data: dict | bytes, status: int = 200) -> None:
        call = (self.command, self.path)
        number = self.server.calls.count(call)
        self.server.calls.append(call)
        fault = self.server.fault(*call, number)
        if fault is not None:
            data, status = {"error": {"message": "out of order"}}, fault
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
