"""``steno export`` in every format, by filter, into files and directories; golden files freeze what others read."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steno.cli.main import main
from steno.storage.model import NewMessage
from steno.storage.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "export"
AT = "2026-11-20T10:00:00.000Z"
NASTY = "<script>alert(\"x\")</script> & 'quotes'\n```html\n<b>fence</b>\n```\n\x1b[2J\u202eend"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
TAGS = st.lists(TEXT.filter(lambda tag: re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]+", tag) and tag.strip()), max_size=3)
BLOCKS = st.lists(st.fixed_dictionaries({"type": TEXT}, optional={"text": TEXT, "input": OBJECT}), max_size=3)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "tool"]),
        "content": TEXT | BLOCKS,
        "timestamp": st.sampled_from([AT, "2020-01-01T00:00:00+02:00", "2024-01-15T10:30:05Z"]),
        "sender": st.none() | TEXT,
        "usage": st.none() | OBJECT,
        "metadata": OBJECT,
    }
)


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return fresh(tmp_path / "home", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "folder"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def run(store: Store, folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Done:
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def fresh(home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    home.mkdir()
    monkeypatch.setenv("STENO_HOME", str(home))
    return Store(home / "steno.db")


def fill(store: Store) -> None:
    """A session of everything that formats treat differently."""
    store.create(
        id="abc123def456", title="REST <API>", tags=["go", "rest-api"], provider="anthropic", model="claude",
        metadata={"project": "backend-service", "a": 1}, created_ms=1_763_632_800_000,
    )  # fmt: skip
    calls = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "."}},
    ]
    answer = [{"type": "tool_result", "tool_use_id": "t1", "content": "a.py"}]
    for number, (role, content, usage) in enumerate([
        ("user", NASTY, None),
        ("assistant", calls, {"input_tokens": 1000, "output_tokens": 234}),
        ("tool", answer, None),
        ("assistant", "Größe: 日本", {"total_tokens": 14_000}),
    ]):  # fmt: skip
        store.append(
            "abc123def456",
            NewMessage(
                id=f"m{number}", role=role, content=content, usage=usage, timestamp=f"2026-11-20T10:00:0{number}Z"
            ),
        )
    store.touch("abc123def456", 1_795_000_000_000)


def exported(run: Run, *arguments: str) -> str:
    done = run("export", *arguments, "-o", "-")
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize(
    ("form", "name"),
    [("json", "session.json"), ("openai", "session.jsonl"), ("markdown", "session.md"), ("html", "session.html"),
     ("text", "session.txt")],
)  # fmt: skip
def test_a_format_is_what_its_golden_file_says(run: Run, store: Store, form: str, name: str) -> None:
    fill(store)
    assert exported(run, "abc123def456", "--format", form) == (GOLDEN / name).read_bytes().decode()


@pytest.mark.check("AIN-24")
@pytest.mark.parametrize("option", ["-o", "--output", "-f", "--file"])
def test_an_export_goes_where_it_is_told_and_makes_the_directories(
    run: Run, store: Store, folder: Path, option: str
) -> None:
    fill(store)
    assert run("export", "abc123def456", option, "a/b/mine.json").out == ""
    assert [path.name for path in (folder / "a" / "b").iterdir()] == ["mine.json"]
    assert json.loads((folder / "a" / "b" / "mine.json").read_text())["id"] == "abc123def456"


@pytest.mark.check("AIN-24")
def test_without_a_place_each_session_goes_into_its_own_file(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    store.create(id="other")
    assert run("export", "--all").code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["session-abc123def456.json", "session-other.json"]


@pytest.mark.check("AIN-24")
def test_standard_output_holds_the_session_alone(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    done = run("export", "abc123def456", "-o", "-")
    assert (json.loads(done.out)["id"], list(folder.iterdir())) == ("abc123def456", [])


def test_a_directory_takes_a_file_for_each_session(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    run("export", "abc123def456", "--format", "md", "-o", "new/")
    run("export", "abc123def456", "--format", "txt", "-o", ".")
    assert (folder / "new" / "session-abc123def456.md").exists()
    assert (folder / "session-abc123def456.txt").exists()


@pytest.mark.check("AIN-25")
def test_the_keys_of_an_export_are_those_of_the_guide(run: Run, store: Store) -> None:
    fill(store)
    found = json.loads(exported(run, "abc123def456"))
    wanted = {"id", "title", "created_at", "updated_at", "provider", "model", "metadata", "messages"}
    assert found.keys() >= wanted
    assert {key: found["metadata"][key] for key in ("tags", "project")} == {
        "tags": ["go", "rest-api"], "project": "backend-service",
    }  # fmt: skip
    assert all(each.keys() >= {"role", "content", "timestamp"} for each in found["messages"])
    times = [found["created_at"], found["updated_at"], *(each["timestamp"] for each in found["messages"])]
    assert [time for time in times if not time.endswith("Z")] == []


@pytest.mark.check("AIN-26")
@pytest.mark.parametrize(
    "chosen", [["--all"], ["--since", "2024-01-01"], ["--since", "2024-01-01", "--until", "2124-01-01"]]
)
def test_many_sessions_go_into_one_file_that_is_imported_in_one_go(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    fill(store)
    store.create(id="other", title="Other")
    assert run("export", *chosen, "-o", "backup.json").code == 0
    with fresh(tmp_path / "new", monkeypatch) as new:
        assert run("import", "-i", "backup.json").code == 0
        assert sorted(each.id for each in new.sessions()) == ["abc123def456", "other"]


def test_a_filter_chooses_what_is_exported(run: Run, store: Store) -> None:
    fill(store)
    store.create(id="other", tags=["go"])
    assert [each["id"] for each in json.loads(exported(run, "--tag", "go", "--tag", "rest-api"))] == ["abc123def456"]


@pytest.mark.check("AIN-27")
def test_markdown_holds_content_byte_for_byte(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    run("export", "abc123def456", "--format", "markdown", "-o", "session.md")
    assert NASTY.encode() in (folder / "session.md").read_bytes()


@pytest.mark.check("AIN-27")
@pytest.mark.parametrize(("alias", "name"), [("md", "markdown"), ("htm", "html"), ("txt", "text"), ("MD", "markdown")])
def test_a_format_has_short_names(run: Run, store: Store, alias: str, name: str) -> None:
    fill(store)
    assert exported(run, "abc123def456", "--format", alias) == exported(run, "abc123def456", "--format", name)


@pytest.mark.check("AIN-27")
def test_an_unknown_format_is_named_with_those_that_there_are(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    done = run("export", "abc123def456", "--format", "pdf")
    assert (done.code, done.out, list(folder.iterdir())) == (2, "", [])
    assert re.search(r"invalid format: pdf \(supported: json, .*markdown, html, text\)", done.err)


def test_the_name_of_the_file_says_the_format_where_nothing_else_does(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    run("export", "abc123def456", "-o", "page.html")
    assert (folder / "page.html").read_text().startswith("<!DOCTYPE html>")


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload"}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.check("AIN-27")
def test_a_page_shows_what_was_said_and_runs_and_fetches_nothing(run: Run, store: Store) -> None:
    fill(store)
    page = Page()
    out = exported(run, "abc123def456", "--format", "html")
    page.feed(out)
    assert not {"script", "b", "img", "link", "iframe"} & set(page.tags)
    assert "<script>alert(\"x\")</script> & 'quotes'" in page.text
    assert "Größe: 日本" in page.text
    assert "html\n<b>fence</b>" in page.text
    assert html.escape("default-src 'none'", quote=False) in out


@given(said=TEXT)
@settings(max_examples=60)
def test_no_message_leaves_its_place_on_a_page(said: str) -> None:
    from steno.cli.export_html import _said

    shown = Page()
    shown.feed(_said(said))
    assert set(shown.tags) <= {"div", "pre", "code"}


@pytest.mark.check("AIN-28")
def test_an_export_is_summed_up_on_standard_error(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    done = run("export", "abc123def456", "-o", "x.json")
    assert done.err.splitlines() == [
        "File: x.json",
        f"Size: {(folder / 'x.json').stat().st_size / 1000:,.1f} kB",
        "Format: json",
        "Messages: 4",
        "Total Tokens: 15,234",
    ]


@pytest.mark.check("AIN-28")
def test_a_template_gets_session_messages_metadata_and_functions(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    (folder / "t.md.j2").write_text(
        "{{ session.title }} {{ metadata.project }}\n"
        "{% for m in messages %}{{ m.role }} {{ time(m.timestamp, '%S') }} {{ tokens(m) }}: {{ m.content | text }}\n"
        "{% endfor %}{{ session.tags | json }}\n"
    )
    run("export", "abc123def456", "--template", "t.md.j2")
    lines = (folder / "session-abc123def456.md").read_text().splitlines()
    assert lines[0] == "REST <API> backend-service"
    assert "assistant 01 1234: [thinking] hm" in lines
    assert lines[-2:] == ["assistant 03 14000: Größe: 日本", '["go","rest-api"]']


def test_a_template_of_html_escapes_by_itself(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    (folder / "t.html.j2").write_text("{{ session.title }}")
    assert exported(run, "abc123def456", "--template", "t.html.j2") == "REST &lt;API&gt;"


@pytest.mark.check("AIN-28")
@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("a\n{% if %}", "line 2: "),
        ("a\nb\n{{ session.nothing.here }}", "line 3: "),
        ("a\n{{ nobody }}", "line 2: 'nobody' is undefined"),
        ("\n\n{{ 1 / 0 }}", "line 3: "),
        ("\n{{ ''.__class__.__mro__ }}", "line 2: "),
        ("{% include 'nowhere' %}", "nowhere"),
    ],
)
def test_a_fault_in_a_template_is_one_line_with_its_line_number(
    run: Run, store: Store, folder: Path, template: str, told: str
) -> None:
    fill(store)
    (folder / "t.txt").write_text(template)
    done = run("export", "abc123def456", "--template", "t.txt", "-o", "out")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert told in done.err
    assert [path.name for path in folder.iterdir()] == ["t.txt"]


@pytest.mark.check("AIN-28")
def test_a_template_that_is_not_there_is_told_in_one_line(run: Run, store: Store) -> None:
    fill(store)
    done = run("export", "abc123def456", "--template", "nowhere.j2", "-o", "-")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "nowhere.j2" in done.err


def test_jinja_is_imported_only_for_a_template(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run("export", "abc123def456", "--format", "html", "-o", "-").code == 0


@pytest.mark.check("AIN-29")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.none() | st.just("A title"), tags=TAGS, metadata=OBJECT | st.fixed_dictionaries({"tags": TAGS | JSON}),
    state=OBJECT, messages=st.lists(MESSAGE, max_size=4), status=st.sampled_from(["active", "paused", "archived"]),
)  # fmt: skip
def test_export_import_export_is_byte_identical(
    tmp_path_factory: pytest.TempPathFactory, title: str | None, tags: list[str], metadata: dict[str, Any],
    state: dict[str, Any], messages: list[dict[str, Any]], status: str,
) -> None:  # fmt: skip
    place = tmp_path_factory.mktemp("trip")
    with pytest.MonkeyPatch.context() as patch:
        with fresh(place / "one", patch) as store:
            store.create(id="s", title=title, tags=tags, metadata=metadata, state=state, user_id="u")
            store.add_messages("s", [NewMessage(**each) for each in messages])
            store.update("s", fields={"status": status}, metadata={"later": {"z": 1, "a": 2}})
            before = store.get("s").metadata
        assert main(["export", "s", "-o", str(place / "one.json")]) == 0
        with fresh(place / "two", patch) as store:
            assert main(["import", "-i", str(place / "one.json")]) == 0
            assert store.get("s").metadata == before
        assert main(["export", "s", "-o", str(place / "two.json")]) == 0
        assert main(["import", "-i", str(place / "one.json")]) == 0  # and once more is no news
    assert (place / "one.json").read_bytes() == (place / "two.json").read_bytes()


def test_a_link_stays_one_and_what_it_names_is_written(run: Run, store: Store, folder: Path) -> None:
    fill(store)
    (folder / "link.json").symlink_to(folder / "elsewhere" / "real.json")
    assert run("export", "abc", "-o", "link.json").code == 0
    assert (folder / "link.json").is_symlink()
    assert json.loads((folder / "elsewhere" / "real.json").read_text())["id"] == "abc123def456"


@pytest.mark.parametrize("verb", [("export", "abc", "-o"), ("search", "anything", "--export")])
def test_a_pipe_is_written_to_and_stays_one(run: Run, store: Store, folder: Path, verb: tuple[str, ...]) -> None:
    fill(store)
    pipe = folder / "pipe.json"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        assert run(*verb, str(pipe)).code == 0
        assert pipe.is_fifo()
        assert json.loads(read.result(timeout=20))


@pytest.mark.parametrize("name", ["steno.db", "config.toml", "vault.json"])
@pytest.mark.parametrize("verb", [("export", "abc", "-o"), ("search", "anything", "--export")])
def test_nothing_is_written_over_what_is_steno_s_own(
    run: Run, store: Store, tmp_path: Path, name: str, verb: tuple[str, ...]
) -> None:
    fill(store)
    place = tmp_path / "home" / name
    before = place.read_bytes() if place.exists() else None
    done = run(*verb, str(place))
    assert (done.code, "Steno's own" in done.err) == (4, True)
    assert (place.read_bytes() if place.exists() else None) == before
