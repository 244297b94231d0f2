"""A fake `vllm serve`: a tiny transformers model behind vLLM's routes, which can die, hang, lie and
come back.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch
from tiny import SCRATCH

from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch

GENERATE = "/inference/v1/generate"
KEY = "sk-very-secret-0123456789"
UPDATE = [
    "/pause",
    "/start_weight_update",
    "/update_weights",
    "/finish_weight_update",
    "/update_weight_version",
]
PUSH = [*UPDATE, "/reset_prefix_cache", "/resume"]  # the routes of one update, in order


def text_logits(model: Any, ids: torch.Tensor, urls: list[str]) -> torch.Tensor:
    """The logits (T, V) of a sequence (1, T), whose images (`urls`) a model of text ignores."""
    return model(input_ids=ids, use_cache=False).logits[0]


class FakeVLLM:
    """One server. `faults[route]`: what it does instead of answering, one request after the other;
    "always" ones stay.

    A fault is a status with a body (429, {...}, {header: value}), "hang", "half" (half a body),
    "hang up" or bytes (answered with status 200). `script(body)` gives the tokens of a reply and
    how it ended.
    """

    def __init__(
        self,
        root: str = "/models/tiny",
        seed: int = 0,
        version: str = "0.32.1",
        scratch: Scratch = SCRATCH,
    ) -> None:
        self.root, self.vllm, self.names = root, version, ["tiny"]
        self.tokenizer = scratch.tokenizer()
        self.chat = ChatFormat(self.tokenizer)
        self.first = replace(scratch, seed=seed).model(self.tokenizer).eval()
        self.context, self.backend, self.port = scratch.context, "slm_math", 0
        self.faults: dict[str, list[Any]] = {}
        self.always: dict[str, Any] = {}
        self.ignores_weights = self.ignores_version = False
        self.warp = 1.0  # it samples at this multiple of the temperature it was asked for
        self.delay = 0.0  # seconds of each generation
        self.noise = 0.0  # nats on the log-probabilities of prompts
        self.script: Callable[[dict[str, Any]], tuple[list[int], str]] | None = None
        self.logits: Callable[[Any, torch.Tensor, list[str]], torch.Tensor] = text_logits
        self.asked: list[tuple[str, dict[str, Any]]] = []  # route, body (or query): in order
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.now = self.most = self.hung_up = self.lives = 0
        self.change = threading.Condition()
        self.computing = threading.Lock()
        self.start()

    def start(self) -> None:
        """A new process: its first weights, their first name, no adapters."""
        self.model = copy.deepcopy(self.first)
        self.adapters: dict[str, Any] = {}
        self.version, self.paused, self.updating, self.now = "default", False, False, 0
        self.fixed: set[str] = set()
        self.lives += 1
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.http.fake, self.http.open = self, set()  # type: ignore[attr-defined]
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self) -> None:
        """Its socket closes, connections break, new ones are refused."""
        self.lives += 1
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.http.open):  # type: ignore[attr-defined]
            with suppress(OSError):
                connection.shutdown(2)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self, start: int = 0) -> list[str]:
        """Routes that change or generate something, in order."""
        seen = {*PUSH, "/reset_encoder_cache", GENERATE, "/v1/load_lora_adapter"}
        return [route for route, _ in self.asked[start:] if route in seen]

    def bodies(self, route: str = GENERATE) -> list[dict[str, Any]]:
        return [body for found, body in self.asked if found == route]

    def answer(self, route: str, body: dict[str, Any]) -> tuple[int, Any]:
        if route == GENERATE:
            return self.generate(body)
        if route == "/pause":
            with self.change:
                self.paused = True
                self.change.wait_for(lambda: self.now == 0, 10)
        elif route == "/resume":
            with self.change:
                self.paused = False
                self.change.notify_all()
        elif route in ("/start_weight_update", "/finish_weight_update"):
            self.updating = route.startswith("/start")
        elif route == "/update_weights":
            if not (self.updating and self.paused):
                return 400, {"error": "no update has started"}
            if not self.ignores_weights:
                self.load(**body["update_info"])
        elif route == "/update_weight_version":
            self.version = self.version if self.ignores_version else body["new_version"]
        elif route == "/v1/load_lora_adapter":
            return self.adapter(body)
        elif route not in ("/reset_prefix_cache", "/reset_encoder_cache", *self.facts()):
            return 404, {"detail": "Not Found"}
        return 200, self.facts().get(route, {"success": True})

    def facts(self) -> dict[str, Any]:
        models = [
            {"id": name, "root": self.root, "max_model_len": self.context, "parent": None}
            for name in self.names
        ]
        models += [
            {"id": name, "root": "/somewhere", "parent": self.names[0]} for name in self.adapters
        ]
        return {
            "/health": None,
            "/version": {"version": self.vllm},
            "/v1/models": {"object": "list", "data": models},
            "/weight_info": {"weight_version": self.version},
            "/server_info": {"vllm_config": {"weight_transfer_config": {"backend": self.backend}}},
            "/get_world_size": {"world_size": 1},
        }

    def load(self, path: str, part: str = "all") -> None:
        from safetensors.torch import load_file

        weights = load_file(path)
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        assert not unexpected
        if part != "rest":
            self.fixed = set(weights) if part == "fixed" else set()
        # the head is tied
        assert part == "fixed" or not {*missing} - self.fixed - {"lm_head.weight"}

    def adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        from peft import PeftModel

        if body["lora_name"] in self.adapters and not body.get("load_inplace"):
            return 400, {"error": {"message": "already loaded"}}
        if not self.ignores_weights or body["lora_name"] not in self.adapters:
            model = PeftModel.from_pretrained(copy.deepcopy(self.model), body["lora_path"])
            self.adapters[body["lora_name"]] = model.eval()
        return 200, {}

    def generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = {**dict.fromkeys(self.names, self.model), **self.adapters}.get(
            body.get("model") or self.names[0]
        )
        if model is None:
            return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
        life = self.lives
        with self.change:
            self.change.wait_for(lambda: not self.paused, 10)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            version = self.version
            time.sleep(self.delay)
            with self.computing:
                tokens, logps, mask, finish = self.sample(model, body)
        finally:
            with self.change:
                self.now -= life == self.lives
                self.change.notify_all()
        content = [
            {"token_id": t, "logprob": p, "rank": 1, "top_logprobs": []}
            for t, p in zip(tokens, logps)
        ]
        choice = {"index": 0, "finish_reason": finish, "stop_reason": None, "token_ids": tokens}
        choice |= {"logprobs": {"content": content}, "sampling_mask": mask}
        if not self.vllm.startswith("0.31"):
            choice["weight_versions"] = [{"version": version, "start": 0, "end": len(tokens)}]
        whole = {"request_id": "x", "output_mode": "tokens", "choices": [choice]}
        if body["sampling_params"].get("prompt_logprobs") is not None:
            whole["prompt_logprobs"] = self.prompt_logprobs(model, body["token_ids"])
        return 200, whole

    @torch.no_grad()
    def prompt_logprobs(self, model: Any, ids: list[int]) -> list[Any]:
        """Of each token of a prompt, nothing of the first; `noise` makes no two answers equal."""
        with self.computing:
            logps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        found: list[Any] = [None]
        for own, token in zip(logps, ids[1:]):
            logprob = own[token].item() + self.noise * torch.rand(()).item()
            rank = 1 + int((own > own[token]).sum())
            found.append({str(token): {"logprob": logprob, "rank": rank, "decoded_token": None}})
        return found

    @torch.no_grad()
    def sample(self, model: Any, body: dict[str, Any]) -> tuple[list[int], list[float], Any, str]:
        params, ids = body["sampling_params"], torch.tensor([body["token_ids"]])
        random = torch.Generator().manual_seed(params.get("seed") or 0)
        bias = torch.zeros(len(self.tokenizer))
        for token, value in (params.get("logit_bias") or {}).items():
            bias[int(token)] = value
        planned, end = self.script(body) if self.script else ([], "")
        tokens, logps = [], []
        urls = [part["url"] for part in body.get("content_parts", ())]
        for _ in range(min(params["max_tokens"], self.context - ids.shape[1])):
            p = (
                (self.logits(model, ids, urls)[-1] + bias)
                / ((params["temperature"] or 1.0) * self.warp)
            ).log_softmax(-1)
            token = (
                int(p.argmax())
                if not params["temperature"]
                else int(torch.multinomial(p.exp(), 1, generator=random))
            )
            token = planned[len(tokens)] if len(tokens) < len(planned) else token
            tokens.append(token)
            logps.append(p[token].item())
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
            text = self.tokenizer.decode(tokens) if params.get("detokenize") else ""
            if token in params.get("stop_token_ids", ()) or any(
                stop in text for stop in params.get("stop", ())
            ):
                return tokens, logps, None, "stop"
            if len(tokens) == len(planned) and end:
                return tokens, logps, None, end
        return tokens, logps, None, "length"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.open.discard(self.connection)  # type: ignore[attr-defined]
        super().finish()

    def do_GET(self) -> None:
        fake: FakeVLLM = self.server.fake  # type: ignore[attr-defined]
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        if len(data) < length:  # the connection broke in the middle: nobody was asked
            self.close_connection = True
            return None
        body = (
            json.loads(data)
            if data
            else {name: values[0] for name, values in parse_qs(split.query).items()}
        )
        with fake.change:
            fake.asked.append((split.path, body))
            fake.headers.append(dict(self.headers))
            fake.times.append(time.monotonic())
            queue = fake.faults.get(split.path) or []
            fault = queue.pop(0) if queue else fake.always.get(split.path)
        headers: dict[str, str] = {}
        if fault == "hang":
            return self.hang(fake)
        if fault == "hang up":
            self.close_connection = True
            return None
        if isinstance(fault, bytes):
            status, answer = 200, fault
        elif isinstance(fault, tuple):
            status, answer, headers = (*fault, {}, {})[:3]
        else:
            status, answer = fake.answer(split.path, body)
        whole = (
            answer
            if isinstance(answer, bytes)
            else b""
            if answer is None
            else json.dumps(answer).encode()
        )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(whole)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(whole[: len(whole) // 2] if fault == "half" else whole)
        self.close_connection |= fault == "half"

    do_POST = do_GET

    def hang(self, fake: FakeVLLM) -> None:
        """Says nothing until the client hangs up, or for ten seconds."""
        self.connection.settimeout(10)
        with suppress(OSError):
            fake.hung_up += self.connection.recv(1) == b""
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(n: int = 1, **options: Any) -> Iterator[list[FakeVLLM]]:
    servers = [FakeVLLM(**options) for _ in range(n)]
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()
