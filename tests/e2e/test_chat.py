"""Talking with a model, by the real command: in a terminal, killed on the way, with a server like OpenAI's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from steno.storage.drafts import INTERRUPTED
from steno.storage.model import Message
from steno.storage.store import Store
from steno.tests.e2e.device import Device, Done, Process, until
from steno.tests.e2e.forking import Forker
from steno.tests.e2e.scripted_models import Models, install
from steno.tests.e2e.terminal import Terminal

_READY, _GOING_ON = "you> ", "...> "
_HALF = "You said: "


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("packages") / "p")


@pytest.fixture(scope="module", autouse=True)
def _forked_with_llm(packages: Path) -> Iterator[None]:
    """Commands that find llm imported, which takes most of their time."""
    steno = "steno.cli.chat_model"
    Device.forker = Forker(imports=(steno, "llm.default_plugins.openai_models"), path=packages)
    yield
    Device.forker.close()
    Device.forker = None


@pytest.fixture
def models(tmp_path: Path, packages: Path) -> Models:
    return Models(tmp_path, packages=packages)


class Chat(Terminal):
    """`steno chat` of a device in a terminal."""

    def __init__(self, device: Device, models: Models, *arguments: str) -> None:
        command = [sys.executable, "-m", "steno.cli.main", "chat", *arguments]
        super().__init__(command, environment=device.environment(**models.environment))

    def enter(self, line: str, then: str = _READY) -> str:
        """Type a line and wait for what comes then; what was shown in between."""
        self.type(line + "\n")
        self.wait(line)
        return self.wait(then).strip()


@pytest.fixture
def terminal(lonely: Device, models: Models) -> Iterator[Chat]:
    opened = Chat(lonely, models)
    opened.wait(_READY)
    yield opened
    opened.close()


def said(device: Device) -> list[Message]:
    """The messages of the one session of a device."""
    with device.store() as store:
        sessions = [*store.sessions()]
        return [*store.messages(sessions[0].id)] if sessions else []


def texts(device: Device) -> list[Any]:
    return [each.content for each in said(device)]


def chat(device: Device, models: Models, *arguments: str, code: int = 0) -> Done:
    return device.steno("chat", *arguments, code=code, stdin="", **models.environment)


def ask_slowly(device: Device, models: Models) -> Process:
    """Ask, and wait until the beginning of the answer stands on the disk."""
    process = device.begin("chat", "slowly", **models.environment)
    drafts = device.home.drafts
    until(
        lambda: drafts.is_dir() and any(_HALF in path.read_text("utf-8") for path in drafts.iterdir()),
        "the beginning of an answer",
    )
    return process


# In a terminal


def test_several_messages_are_one_session_and_how_to_go_on_is_said(terminal: Chat, lonely: Device):
    assert terminal.enter("one") == "You said: one"
    assert terminal.enter("two\\", then=_GOING_ON) == ""
    assert terminal.enter("three") == "You said: two\nthree"
    terminal.type("exit\n")
    terminal.wait("goes on with this session")
    assert terminal.end() == 0
    assert texts(lonely) == ["one", "You said: one", "two\nthree", "You said: two\nthree"]


def test_an_answer_is_shown_as_it_comes(terminal: Chat, models: Models):
    terminal.type("slowly\n")
    terminal.wait("slowly")
    terminal.wait(_HALF)
    assert "slowly" not in terminal.look()
    models.go.touch()
    terminal.wait("slowly")
    terminal.wait(_READY)


def test_an_interrupted_answer_is_kept_as_far_as_it_came_and_the_chat_goes_on(terminal: Chat, lonely: Device):
    terminal.type("slowly\n")
    terminal.wait(_HALF)
    terminal.type("\x03")
    terminal.wait("what was said is kept")
    terminal.wait(_READY)
    assert [(each.content, each.metadata) for each in said(lonely)] == [("slowly", {}), (_HALF, {INTERRUPTED: True})]
    assert "Error: scripted did not answer to the end" in terminal.enter("fail")
    assert terminal.enter("two") == "You said: two"
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_second_interruption_ends_the_chat(terminal: Chat, lonely: Device):
    terminal.type("slowly\n")
    terminal.wait(_HALF)
    terminal.type("\x03")
    terminal.wait(_READY)
    terminal.type("\x03")
    assert terminal.end() == 0
    assert texts(lonely) == ["slowly", _HALF]


# As a process


def test_an_interrupted_command_keeps_what_was_said(lonely: Device, models: Models):
    process = ask_slowly(lonely, models)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert texts(lonely) == ["slowly", _HALF]


@pytest.mark.parametrize(
    ("number", "verb"),
    [(signal.SIGKILL, ("list",)), (signal.SIGTERM, ("add", "@last", "later")), (signal.SIGHUP, ("search", "said"))],
)
def test_what_a_killed_command_was_told_is_there_for_whoever_looks_next(
    lonely: Device, models: Models, number: signal.Signals, verb: tuple[str, ...]
):
    process = ask_slowly(lonely, models)
    process.send_signal(number)
    process.wait(30)
    assert texts(lonely) == ["slowly"]
    lonely.steno(*verb)
    assert texts(lonely)[:2] == ["slowly", _HALF]
    assert said(lonely)[1].metadata == {INTERRUPTED: True}
    assert [*lonely.home.drafts.iterdir()] == []


def test_what_is_still_being_said_is_left_to_who_takes_it_in(lonely: Device, models: Models):
    process = ask_slowly(lonely, models)
    lonely.steno("list")
    lonely.steno("add", "@last", "meanwhile")
    assert texts(lonely) == ["slowly", "meanwhile"]
    models.go.touch()
    assert process.wait(30) == 0
    assert texts(lonely) == ["slowly", "You said: slowly", "meanwhile"]


def test_an_answer_on_its_way_makes_one_message_and_no_revision(lonely: Device, models: Models):
    process = ask_slowly(lonely, models)
    with lonely.store() as store:
        before = store.last_seq
    models.go.touch()
    assert process.wait(30) == 0
    with lonely.store() as store:
        assert store.last_seq == before + 1
        assert store.one("SELECT count(*) FROM revisions") == (0,)


@pytest.mark.parametrize("gone", ["delete", "purge"])
def test_a_draft_does_not_bring_back_what_was_deleted_or_purged(lonely: Device, models: Models, gone: str):
    lonely.steno("create", "--id", "k3v9", "--title", "T")
    process = ask_slowly(lonely, models)
    lonely.steno("delete", "k3v9", *(["--hard", "--force"] if gone == "purge" else []))
    process.kill()
    process.wait()
    assert lonely.json("list", "--all") == []
    waiting = [*lonely.home.drafts.iterdir()]
    assert len(waiting) == (gone == "delete")
    if gone == "delete":
        lonely.steno("restore", "k3v9")
        lonely.steno("list")
        assert texts(lonely) == ["slowly", _HALF]


def test_a_draft_survives_a_store_that_was_put_back_to_before_its_session(lonely: Device, models: Models):
    process = ask_slowly(lonely, models)
    process.kill()
    process.wait()
    [session] = [path.name for path in lonely.home.drafts.iterdir()]
    for path in lonely.place.glob("steno.db*"):
        path.unlink()
    Store(lonely.home.database).close()
    lonely.steno("list")
    assert [(each.id, each.content) for each in said(lonely)] == [(session, _HALF)]


def test_a_reader_that_has_seen_enough_ends_the_answer_and_keeps_it(lonely: Device, models: Models):
    process = subprocess.Popen(
        [sys.executable, "-m", "steno.cli.main", "chat", "slowly"],
        env=lonely.environment(**models.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == _HALF.encode()
    process.stdout.close()
    models.go.touch()
    assert process.wait(30) == 141
    assert texts(lonely) == ["slowly", "You said: slowly"]


@pytest.mark.check("AIN-48")
def test_a_session_begun_on_one_device_is_gone_on_with_on_another(pair: tuple[Device, Device], models: Models):
    laptop, desktop = pair
    chat(laptop, models, "What is JWT?")
    laptop.sync_here()
    desktop.sync_here()
    [session] = desktop.json("list")
    chat(desktop, models, "-s", session["id"], "And OAuth?")
    assert models.told()[-1]["told"] == [
        ["user", "What is JWT?"], ["assistant", "You said: What is JWT?"], ["user", "And OAuth?"],
    ]  # fmt: skip
    desktop.sync_here()
    laptop.sync_here()
    assert texts(laptop) == ["What is JWT?", "You said: What is JWT?", "And OAuth?", "You said: And OAuth?"]


# With a server


class Server(ThreadingHTTPServer):
    """A server that speaks OpenAI's protocol and streams what it was asked; it holds on before the last piece."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Any] = []
        self.status = 200
        self.go = threading.Event()
        self.go.set()


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/event-stream" if self.server.status == 200 else "application/json")
        self.end_headers()
        if self.server.status != 200:
            self.wfile.write(json.dumps({"error": {"message": "no\nroom"}}).encode())
            return
        self._piece({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Größe "}}]})
        self.server.go.wait(60)
        self._piece({"choices": [{"index": 0, "delta": {"content": "zählt."}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}
        self._piece({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _piece(self, piece: dict[str, Any]) -> None:
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "local", **piece}
        self.wfile.write(f"data: {json.dumps(whole)}\n\n".encode())

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@pytest.fixture
def server(models: Models) -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    base = f"http://127.0.0.1:{made.server_port}/v1"
    (models.user / "extra-openai-models.yaml").write_text(
        f'- {{model_id: local, model_name: local, api_base: "{base}"}}\n'
    )
    yield made
    made.go.set()
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_server_that_speaks_openais_protocol_answers(lonely: Device, models: Models, server: Server):
    lonely.steno("create", "--id", "k3v9", "--title", "T")
    lonely.steno("add", "k3v9", "Be brief.", "--role", "system")
    chat(lonely, models, "-s", "k3v9", "-m", "local", "What counts?")
    done = chat(lonely, models, "-s", "k3v9", "Sure?")
    assert done.out == "Größe zählt.\n"
    assert server.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What counts?"},
        {"role": "assistant", "content": "Größe zählt."},
        {"role": "user", "content": "Sure?"},
    ]
    assert [server.asked[-1][name] for name in ("model", "stream")] == ["local", True]
    answer = said(lonely)[-1]
    assert (answer.model, answer.usage) == ("local", {"input_tokens": 12, "output_tokens": 4})


def test_an_interrupted_stream_keeps_what_came_over_the_wire(lonely: Device, models: Models, server: Server):
    server.go.clear()
    process = lonely.begin("chat", "-m", "local", "What counts?", **models.environment)
    until(lambda: "Größe" in lonely.log(), "the beginning of the answer")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert texts(lonely) == ["What counts?", "Größe "]


def test_a_server_that_refuses_is_told_in_one_line_and_the_question_is_kept(
    lonely: Device, models: Models, server: Server
):
    server.status = 400
    done = chat(lonely, models, "-m", "local", "What counts?", code=6)
    [line] = [line for line in done.err.splitlines() if line.startswith("Error")]
    assert line.startswith("Error: local did not answer to the end (Error code: 400 - no room): what was said is kept")
    assert texts(lonely) == ["What counts?"]
