"""``steno chat``: talk with a model; both sides are kept as they come (tests/unit/test_cli_chat.py)."""

from __future__ import annotations

import sys

import click

from ..storage.errors import InvalidInput
from ..storage.model import SessionHeader, check_title
from ..storage.shape import message_json
from ..storage.store import Store
from .chat_prompt import HELP, converse, edited_lines, line_of_terminal
from .chat_session import Talk, the_current, the_empty, the_last, the_last_of_title, the_named
from .options import examples, format_option
from .stores import reading
from .terminal import note, print_json, safe
from .writing import named, piped


@click.command(
    short_help="Talk with a model; both sides are kept.",
    epilog=examples(
        "steno chat",
        'steno chat --title "OAuth Implementation" "How do I implement OAuth 2.0 in Go?"',
        'steno chat -r "And the refresh token?"',
        "git diff | steno chat -m gpt-4o -s k3v9",
        'steno chat --title "User Authentication Feature" -r',
    ),
)
@click.argument("prompt", metavar="[PROMPT|-]", required=False)
@click.option("--session-id", "-s", "session", metavar="ID", help="Go on with this session.")
@click.option("--resume", "-r", is_flag=True, help="Go on with the last session, or the last one of that --title.")
@click.option("--current", is_flag=True, help="Go on with the current session, whatever was said in it.")
@click.option("--title", "-t", metavar="TEXT", help="The title of a new session; without one its first words.")
@click.option("--model", "-m", metavar="NAME", help="Which model answers: a name or alias that `llm models` lists.")
@format_option
def chat(
    *,
    prompt: str | None,
    session: str | None,
    resume: bool,
    current: bool,
    title: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Talk with a model, in a new session, or in one that is there: the model is told all that was said in it.

    Without PROMPT it asks for one message after the other; what is piped in is a message. Models are those of the
    llm library and its plug-ins, which also keeps their keys: see `llm models` and `llm keys`. Without -m it is the
    session's model, in a new session llm's own default.
    """
    _check_choice(session=session, resume=resume, current=current, title=title)
    title = None if title is None else check_title(title)
    asked = _prompt(prompt)
    if asked is None and as_json:
        raise click.UsageError("--json needs a PROMPT, or one that is piped in")
    with reading() as store:
        found = _session(store, session=session, resume=resume, current=current, title=title)
    talk = _talk(found, model=model, title=title)
    if as_json and asked is not None:
        _say_to_program(talk, asked)
    else:
        _say_to_person(talk, asked)


def _check_choice(*, session: str | None, resume: bool, current: bool, title: str | None) -> None:
    if (session is not None) + resume + current > 1:
        raise click.UsageError("--session-id, --resume and --current each name a session: give one of them")
    if title is not None and (session is not None or current):
        raise click.UsageError("--title is for a new session; `steno rename` gives one that is there another title")


def _prompt(given: str | None) -> str | None:
    """What is to be said; None where a person is to be asked. Raises `InvalidInput` for what is blank."""
    if given is None and sys.stdin.isatty():
        return None
    text = piped() if given is None or given == "-" else given
    if not text.strip():
        raise InvalidInput("message cannot be empty")
    return text


def _session(
    store: Store, *, session: str | None, resume: bool, current: bool, title: str | None
) -> SessionHeader | None:
    """The session to go on with; None for a new one."""
    if session is not None:
        return the_named(store, session)
    if current:
        return the_current(store)
    if resume:
        return the_last(store) if title is None else the_last_of_title(store, title)
    return the_empty(store, title)


def _talk(session: SessionHeader | None, *, model: str | None, title: str | None) -> Talk:
    from .chat_model import find_model  # noqa: PLC0415  llm takes half a second, and may not be there

    found = find_model(model or (session.model if session else None))
    found.require_key()
    return Talk(session, found, title=title, chosen=model is not None)


def _say_to_program(talk: Talk, text: str) -> None:
    answer = talk.say(text, lambda _: None)
    assert talk.session is not None, "what was said is in a session"
    print_json({"session": talk.session.id, "answer": None if answer is None else message_json(answer)})


def _say_to_person(talk: Talk, text: str | None) -> None:
    """Say a text, or without one what is typed, and show the answers."""
    new = talk.session is None
    try:
        if text is not None:
            _say(talk, text)
        else:
            where = "a new session" if talk.session is None else named(talk.session)
            note(f"{talk.model.id} answers in {where}.")
            note(HELP)
            edited_lines()
            converse(lambda typed: _say(talk, typed), line_of_terminal)
    finally:
        if talk.session is not None and (new or text is None):
            note(f"`steno chat -s {talk.session.id}` goes on with this session.")


def _say(talk: Talk, text: str) -> None:
    shown = ""

    def show(piece: str) -> None:
        nonlocal shown
        shown = piece or shown
        click.echo(safe(piece), nl=False)

    try:
        if talk.say(text, show) is None:
            note(f"{talk.model.id} said nothing.")
    finally:
        if shown and not shown.endswith("\n"):
            click.echo()
