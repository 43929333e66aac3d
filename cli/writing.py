"""The verbs that write to a session: ``create``, ``add``, ``rename``, ``tag``, ``meta``."""

from __future__ import annotations

import sys

import click

from ..storage.current import set_current
from ..storage.errors import InvalidInput, SessionNotFound, StenoError
from ..storage.home import Home
from ..storage.model import Content, Json, NewMessage, SessionHeader, check_content
from ..storage.shape import message_json, session_json
from ..storage.store import Store
from .options import examples, format_option, json_object, json_value, local_only_option
from .stores import reading, writing
from .terminal import local_time, note, one_line_json, print_json, safe_line

_NO_TITLE = "(untitled)"
_TITLE_NEEDED = "session title is required (use --title or --name)"


@click.command(
    short_help="Make a session.",
    epilog=examples(
        'steno create --title "Bug Investigation" --tags golang,api',
        """steno create --title "API" --metadata '{"project": "backend"}' --json""",
    ),
)
@click.option("--title", "-t", metavar="TEXT", help="Its title; needed, unless --id names it.")
@click.option("--name", metavar="TEXT", help="The same as --title.")
@click.option("--tags", metavar="A,B", default="", help="Tags, with commas between them.")
@click.option(
    "--provider", metavar="NAME", help="Whose model it talks to: anthropic, openai, … (config.toml has them)."
)
@click.option("--model", metavar="NAME", help="Which model it talks to.")
@click.option("--metadata", metavar="JSON", callback=json_object, help="A JSON object.")
@click.option("--user", "user_id", metavar="ID", help="Whose session it is.")
@click.option("--id", "session_id", metavar="ID", help="Its id; without one it gets 12 random characters.")
@click.option("--no-activate", is_flag=True, help="The current session stays what it was.")
@local_only_option
@format_option
def create(
    *,
    title: str | None,
    name: str | None,
    tags: str,
    provider: str | None,
    model: str | None,
    metadata: dict[str, Json] | None,
    user_id: str | None,
    session_id: str | None,
    no_activate: bool,
    local_only: bool,
    as_json: bool,
) -> None:
    """Make a session and print its id. It becomes the current one, which `steno chat --current` goes on with."""
    if title is not None and name is not None and title != name:
        note("--title is taken, --name is not.")
    title = name if title is None else title
    if title is None and session_id is None:
        raise click.UsageError(_TITLE_NEEDED)
    if title is not None and not title.strip():
        raise InvalidInput(_TITLE_NEEDED)
    with writing() as store, store.transaction():
        made = store.create(
            id=session_id,
            title=title,
            provider=None if provider is None else _provider(provider),
            model=model,
            user_id=user_id,
            tags=[tag for tag in tags.split(",") if tag.strip()],
            metadata=metadata,
            local_only=local_only,
        )
        if not no_activate:
            set_current(store, made.id)
    if as_json:
        print_json(session_json(made))
        return
    rows = [("ID", made.id), ("Title", made.title or _NO_TITLE), ("Status", made.status)]
    rows += [("Created", local_time(made.created_at, "%Y-%m-%d %H:%M:%S")), ("Tags", ", ".join(made.tags))]
    rows += [("Local only", "it stays on this device")] if made.local_only else []
    _print_rows(rows)
    if no_activate:
        note(f'Add to it with `steno add {made.id} "…"`; `steno resume {made.id}` makes it the current session.')
    else:
        note(f'It is the current session: `steno chat -s {made.id}` talks in it, `steno add {made.id} "…"` adds to it.')


@click.command(
    short_help="Add a message to a session.",
    epilog=examples(
        'steno add k3v9 "How do I test this?"',
        "git diff | steno add @last --role user",
        'steno add build-7 "started" --role system --create',
    ),
)
@click.argument("session", metavar="ID")
@click.argument("text", metavar="[TEXT|-]", required=False)
@click.option("--role", "-r", default="user", show_default=True, metavar="ROLE", help="user, assistant, …")
@click.option("--sender", metavar="NAME", help="Who wrote it.")
@click.option("--model", metavar="NAME", help="Which model wrote it.")
@click.option("--timestamp", metavar="TIME", help="When it was written, as 2026-11-20T10:00:00Z; now without it.")
@click.option("--usage", metavar="JSON", callback=json_object, help="What it cost, a JSON object.")
@click.option("--metadata", metavar="JSON", callback=json_object, help="A JSON object.")
@click.option("--json-content", is_flag=True, help="TEXT is JSON: a list of blocks, or a string.")
@click.option("--create", "make", is_flag=True, help="Make the session if no session has exactly this id.")
@format_option
def add(
    *,
    session: str,
    text: str | None,
    role: str,
    sender: str | None,
    model: str | None,
    timestamp: str | None,
    usage: dict[str, Json] | None,
    metadata: dict[str, Json] | None,
    json_content: bool,
    make: bool,
    as_json: bool,
) -> None:
    """Add a message to a session. Without TEXT, or with -, it is read from standard input."""
    content = _content(text, json_content=json_content)
    new = NewMessage(
        role=role,
        content=content,
        sender=sender,
        model=model,
        timestamp=timestamp,
        usage=usage,
        metadata=metadata or {},
    )
    with writing() as store, store.transaction():
        session_id = _target(store, session, make=make)
        before = store.get(session_id, deleted=True)
        added = store.append(session_id, new)
        after = store.get(session_id)
    if before.deleted_at is not None:
        note(f"{session_id} was deleted and is shown again, without its old messages.")
    if as_json:
        print_json({"session": session_id, **message_json(added)})
    else:
        click.echo(f"Added message {after.message_count} to {named(after)}: {safe_line(added.id)}")


@click.command(
    short_help="Give a session another title.",
    epilog=examples('steno rename k3v9 "OAuth 2.0 Implementation Guide"'),
)
@click.argument("session", metavar="ID")
@click.argument("title", metavar="TITLE")
@format_option
def rename(*, session: str, title: str, as_json: bool) -> None:
    """Give a session another title."""
    with writing() as store, store.transaction():
        changed = store.update(store.resolve(session), fields={"title": title})
    _print_session(changed, f"Renamed {named(changed)}", as_json=as_json)


@click.command(
    short_help="Add tags to a session, remove them, or print them.",
    epilog=examples("steno tag k3v9 go rest-api", "steno tag k3v9 draft --remove"),
)
@click.argument("session", metavar="ID")
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--remove", is_flag=True, help="Remove these tags instead.")
@format_option
def tag(*, session: str, tags: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Add tags to a session and print what it has then. Without a tag, print them only."""
    if not tags and remove:
        raise click.UsageError("--remove needs the tags to remove")
    if not tags:
        with reading() as store:
            changed = store.get(store.resolve(session))
    else:
        with writing() as store, store.transaction():
            session_id = store.resolve(session)
            wanted, unwanted = ((), tags) if remove else (tags, ())
            changed = store.update(session_id, add_tags=wanted, remove_tags=unwanted)
    _print_session(changed, safe_line(", ".join(changed.tags)), as_json=as_json)


@click.command(
    short_help="Set, remove or print a session's metadata.",
    epilog=examples(
        "steno meta k3v9 project backend-service",
        "steno meta k3v9 retries 3 --json-value",
        "steno meta k3v9 project --unset",
    ),
)
@click.argument("session", metavar="ID")
@click.argument("key", metavar="[KEY]", required=False)
@click.argument("value", metavar="[VALUE]", required=False)
@click.option(
    "--json-value", "as_value", is_flag=True, help="VALUE is JSON; an object is merged into the one that is there."
)
@click.option("--unset", is_flag=True, help="Remove KEY.")
@format_option
def meta(*, session: str, key: str | None, value: str | None, as_value: bool, unset: bool, as_json: bool) -> None:
    """Set one key of a session's metadata, remove it, or print it. Without KEY, print all of it."""
    if unset and (key is None or value is not None):
        raise click.UsageError("--unset takes a KEY and no VALUE")
    if key is None or (value is None and not unset):
        with reading() as store:
            found = store.get(store.resolve(session))
        _print_metadata(found, key, as_json=as_json)
        return
    patch = None if value is None else _metadata_value(value, parsed=as_value)
    with writing() as store, store.transaction():
        before = store.get(store.resolve(session))
        fields = _status_too(before, patch) if key == "archived" else None
        changed = store.update(before.id, fields=fields, metadata={key: patch})
    done = "Removed" if unset else "Set"
    _print_session(changed, f"{done} {safe_line(key)} of {named(changed)}", as_json=as_json)


def _content(text: str | None, *, json_content: bool) -> Content:
    """What is to be added; raises `InvalidInput` for blank text."""
    if text is None and sys.stdin.isatty():
        raise click.UsageError("give a TEXT, or pipe one in")
    given = piped() if text is None or text == "-" else text
    content = check_content(json_value(given, "content")) if json_content else given
    if not content or (isinstance(content, str) and not content.strip()):
        raise InvalidInput("message cannot be empty")
    return content


def piped() -> str:
    """Standard input, without the line end that a pipe ends with and nobody wrote."""
    data: bytes = sys.stdin.buffer.read()
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"standard input is not UTF-8 text ({exc.reason} at byte {exc.start})") from exc


def _target(store: Store, ref: str, *, make: bool) -> str:
    """The session to add to. With ``make`` only a whole id counts, so that a script never meets another's session."""
    if not make:
        return store.resolve(ref)
    if ref in ("-", "@last"):
        try:
            return store.resolve(ref)
        except SessionNotFound:
            return store.create().id
    return ref if store.find(ref) else store.create(id=ref).id


def _provider(name: str) -> str:
    """A provider as the settings spell it, in whatever case it was given; raises `InvalidInput`."""
    allowed = Home.from_environment().settings().session.providers
    found = next((each for each in allowed if each.casefold() == name.strip().casefold()), None)
    if allowed and found is None:
        raise InvalidInput(
            f"invalid provider: {name} (valid options: {', '.join(allowed)})",
            hint="or set `providers` under [session] in config.toml",
        )
    return found or name


def _status_too(session: SessionHeader, archived: Json) -> dict[str, Json] | None:
    """What metadata that say that a session is archived mean for its status."""
    if archived is True or (isinstance(archived, str) and archived.casefold() == "true"):
        return {"status": "archived"}
    return {"status": "active"} if session.status == "archived" else None


def _metadata_value(text: str, *, parsed: bool) -> Json:
    value = json_value(text, "value") if parsed else text
    if value is None:
        raise InvalidInput("null cannot be set", hint="use --unset to remove the key")
    return value


def _print_metadata(session: SessionHeader, key: str | None, *, as_json: bool) -> None:
    if key is not None:
        if key not in session.metadata:
            raise _NoSuchKey(session=session.id, key=key)
        value = session.metadata[key]
        if as_json:
            print_json(value)
        else:
            click.echo(_readable(value))
    elif as_json:
        print_json(session.metadata)
    else:
        rows = [("Title", session.title or _NO_TITLE), ("Tags", ", ".join(session.tags))]
        _print_rows(
            [*rows, *((name[:1].upper() + name[1:], _readable(value)) for name, value in session.metadata.items())]
        )


class _NoSuchKey(StenoError):
    """The metadata of a session have no such key."""

    exit_code = 3

    def __init__(self, *, session: str, key: str) -> None:
        super().__init__(f"session {session} has no metadata key {key}")


def _readable(value: Json) -> str:
    if isinstance(value, str):
        return safe_line(value)
    return one_line_json(value)


def _print_session(session: SessionHeader, line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(session_json(session))
    else:
        click.echo(line)


def _print_rows(rows: list[tuple[str, str]]) -> None:
    for name, value in rows:
        if value:
            click.echo(f"{safe_line(name)}: {safe_line(value)}")


def named(session: SessionHeader) -> str:
    """A session as it is spoken of."""
    return safe_line(f"{session.id} ({session.title or _NO_TITLE})")
