"""What may happen at a directory, in what order.

A step is a name with numbers and words, read as the state needs them (the third file means one of those that are
there), so any part of a schedule is a schedule. One seed gives one schedule, whatever else runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from steno.tests.simulation.files_check import settle
from steno.tests.simulation.files_desk import Desk, Editor, World

PLACES = ["one.jsonl", "box/two.jsonl", "2027/01/three.jsonl", "box/two (conflicted copy).jsonl"]
FOREIGN = ["notes.jsonl", "box/chat.jsonl"]
SESSIONS = ["s1", "s22"]
WORDS = ["same", "same", "", "user: and \u2028 odd"]
HEADER = ["title", "status", "provider", "user_id", "tags", "header metadata", "state", "created_at"]
LINE = ["content", "sender", "model", "usage", "timestamp", "metadata", "role"]
LINES = ["insert", "insert own", "cut", "move", "paste text", "paste", "undo", "break"]
CHANGES = {**dict.fromkeys([*LINE, *LINES, *HEADER], 1), "content": 4, "insert": 4, "cut": 3, "move": 2, "title": 2}
SAVES = {"in place": 3, "rename": 2, "backup": 1, "halves": 2, "": 1}
FILES = {"move": 2, "copy": 2, "remove": 1, "move over": 1, "drop": 1}
PROGRAMS = {
    "append": 4, "content": 3, "delete message": 2, "append behind": 1, "sender": 1, "metadata": 1, "title": 1,
    "status": 1, "state": 1, "header metadata": 1, "add tag": 1, "remove tag": 1, "create": 1, "delete": 1,
    "restore": 1, "append to any": 1, "purge message": 1,
}  # fmt: skip
WORK: dict[str, Callable[[Desk], None]] = {
    "write": lambda at: at.some_writing(once=False),
    "write once": lambda at: at.some_writing(once=True),
    "scan": lambda at: at.mirror.scan(),
    "miss": Desk.miss,
    "restart": Desk.restart,
}
RARELY = ["open", "finish a save", "lose events", "settle"]
MAX_STEPS = 60


class Step(NamedTuple):
    """What happens, where, and how: numbers and words that `play` reads."""

    what: str
    desk: str
    how: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Step({self.what!r}, {self.desk!r}, {self.how!r})"


# Drawing


def schedule(seed: int) -> list[Step]:
    """The steps of a seed. Each schedule likes some kinds of steps more than others."""
    rng = random.Random(seed)
    kinds = {**_KINDS, **_CHAINS}
    likes = {name: rng.choice([0.3, 1, 1, 3]) * weight for name, (weight, _) in kinds.items()}
    names, weights = [*likes], [*likes.values()]
    size, drawn = rng.randint(5, MAX_STEPS), list[Step]()
    while len(drawn) < size:
        [name] = rng.choices(names, weights)
        desk = rng.choice("aab")
        drawn += _CHAINS[name][1](rng, desk) if name in _CHAINS else [Step(name, desk, _KINDS[name][1](rng))]
    return drawn


def _edit(rng: random.Random) -> tuple[Any, ...]:
    count = rng.choice([0, 1, 1, 1, 2, 3])
    changes = tuple((_one(rng, CHANGES), rng.randrange(8), rng.randrange(8)) for _ in range(count))
    return changes, rng.randrange(2), _one(rng, SAVES), rng.randrange(6)


_KINDS: dict[str, tuple[float, Callable[[random.Random], tuple[Any, ...]]]] = {
    "edit": (6, _edit),
    "file": (2, lambda rng: (_one(rng, FILES), rng.randrange(8), rng.randrange(8))),
    "program": (4, lambda rng: (_one(rng, PROGRAMS), rng.randrange(8), rng.randrange(8), rng.randrange(8))),
    "exchange": (2, lambda rng: (rng.choice(["both", "publish", "pull"]),)),
    "hear": (4, lambda rng: (rng.choice([0, 0, rng.randrange(16)]), rng.random() < 0.2)),
    "work": (4, lambda rng: (rng.choice([*WORK, "write"]),)),
    "crash": (1.5, lambda rng: (rng.randrange(12),)),
    "meanwhile": (1.5, lambda rng: (rng.randrange(12),)),
    "rarely": (2, lambda rng: (rng.choice(RARELY), rng.randrange(8))),
}


def _killed_over_a_save(rng: random.Random, desk: str) -> list[Step]:
    """Somebody saves while a file is written, and a little later the mirror is killed."""
    point = rng.randrange(8)
    return [
        Step("program", desk, ("append", rng.randrange(8), 0, 7)),
        Step("meanwhile", desk, (point,)),
        Step("edit", desk, _edit(rng)),
        Step("crash", desk, (point + 1 + rng.randrange(4),)),
        Step("work", desk, ("write",)),
    ]


def _seen_aside(rng: random.Random, desk: str) -> list[Step]:
    """An editor sets a file aside for a moment, in which it is looked for."""
    changes, slot, _, patience = _edit(rng)
    return [
        Step("edit", desk, (changes, slot, "backup", patience)),
        Step("hear", desk, (0, False)),
        Step("rarely", desk, ("finish a save", 0)),
        Step("work", desk, ("miss",)),
    ]


def _purged_under_an_editor(rng: random.Random, desk: str) -> list[Step]:
    """A line that somebody just added is purged, and the same editor saves again."""
    slot, patience = rng.randrange(2), rng.randrange(6)
    return [
        Step("edit", desk, ((("insert", rng.randrange(8), 7),), slot, "in place", patience)),
        Step("hear", desk, (0, False)),
        Step("program", desk, ("purge message", rng.randrange(8), rng.randrange(8), 7)),
        Step("edit", desk, ((), slot, "in place", patience)),
        Step("hear", desk, (0, False)),
    ]


_CHAINS: dict[str, tuple[float, Callable[[random.Random, str], list[Step]]]] = {
    "killed over a save": (0.5, _killed_over_a_save),
    "seen aside": (0.3, _seen_aside),
    "purged under an editor": (0.3, _purged_under_an_editor),
}
"""What seldom comes together by chance."""


def _one(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices([*weights], [*weights.values()])[0]


# Playing


def play(world: World, steps: list[Step]) -> int:
    """Let steps happen, then come to rest; returns how many happened."""
    first = world.desks["a"]
    first.create("s1")
    for text in ("first", "second"):
        first.append("s1", text)
    world.work(first, first.write)
    for step in steps:
        _play(world, step)
    settle(world)
    return len(steps)


def _play(world: World, step: Step) -> None:
    desk, how = world.desks[step.desk], step.how
    match step.what:
        case "edit":
            changes, slot, save, patience = how
            world.do(lambda: _at_editor(world, desk, changes, slot, (save, patience)))
        case "file":
            world.do(lambda: _at_files(desk, *how))
        case "program":
            what, session, message, number = how
            world.do(lambda: _program(desk, what, session, message, number, _words(world, number)))
        case "exchange":
            world.do(lambda: _exchange(desk, world.other(desk), how[0]))
        case "hear":
            world.work(desk, lambda: desk.hear(how[0], again=how[1]))
        case "work":
            world.work(desk, lambda: WORK[how[0]](desk))
        case "crash":
            world.crash_at = 1 + how[0]
        case "meanwhile":
            world.later_at = 1 + how[0]
        case "rarely":
            _rarely(world, desk, *how)
        case _:
            raise ValueError(step)


def _words(world: World, number: int) -> str:
    return WORDS[number] if number < len(WORDS) else f"text {next(world.texts)}"


def _rarely(world: World, desk: Desk, what: str, number: int) -> None:
    if what == "settle":
        settle(world)
    elif what == "open":
        world.do(lambda: desk.opens(number % 2, number // 2) and None)
    else:
        world.do({"finish a save": desk.saves_end, "lose events": desk.touched.clear}[what])


def _exchange(desk: Desk, other: Desk, what: str) -> None:
    if what != "pull":
        desk.publish()
        if what == "both":
            other.pull(desk)
    else:
        desk.pull(other)


def _at_files(desk: Desk, what: str, file: int, to: int) -> None:
    files = desk.files()
    if what == "drop":
        desk.drops(desk.root / FOREIGN[to % len(FOREIGN)], [_words(desk.world, 7) for _ in range(1 + file % 2)])
    if what == "drop" or not files:
        return
    path, other = files[file % len(files)], files[to % len(files)]
    if what == "remove":
        desk.removes(path)
    elif what == "copy":
        desk.copies(path, desk.root / PLACES[to % len(PLACES)])
    else:
        desk.moves(path, other if what == "move over" else desk.root / PLACES[to % len(PLACES)])


def _at_editor(world: World, desk: Desk, changes: Any, slot: int, saving: tuple[str, int]) -> None:
    """Change some of a buffer, then save it, but for an empty way to save."""
    editor = desk.editor(slot)
    if editor is None:
        return
    for what, at, number in changes:
        _change(editor, what, at, number, _words(world, number))
    how, patience = saving
    if how:
        editor.save(how, patience=patience)


def _change(editor: Editor, what: str, at: int, number: int, text: str) -> None:
    """Change a buffer by hand."""
    lines = editor.lines
    if what in HEADER:
        _change_header(editor.header, what, number, text)
    elif what == "undo":
        editor.undo()
    elif what == "break":
        editor.broken = "" if editor.broken else '{"role":"user",'
    elif what in ("insert", "insert own"):
        own = {"id": f"own-{text}"} if what == "insert own" else {}
        lines.insert(at % (len(lines) + 1), {"role": "user", "content": text, **own})
    elif lines:
        _change_lines(lines, what, at % len(lines), number, text)


def _change_lines(lines: list[dict[str, Any]], what: str, at: int, number: int, text: str) -> None:
    if what == "cut":
        del lines[at]
    elif what == "move":
        moved = lines.pop(at)
        lines.insert(number % (len(lines) + 1), moved)
    elif what == "paste":
        lines.insert(number % (len(lines) + 1), {**lines[at]})
    elif what == "paste text":
        lines.insert(number % (len(lines) + 1), {key: value for key, value in lines[at].items() if key != "id"})
    else:
        _change_line(lines[at], what, number, text)


def _change_line(line: dict[str, Any], what: str, number: int, text: str) -> None:
    if what == "metadata":
        line["metadata"] = {**line.get("metadata", {}), "ab"[number % 2]: text}
        if number == 7:
            line["metadata"].pop("by", None)
    elif what == "usage":
        line["usage"] = {"n": number}
    elif what == "timestamp":
        line["timestamp"] = f"2026-01-0{number + 1}T00:00:00.000Z"
    elif what == "role":
        line["role"] = "assistant"
    elif number == 3 and what != "content":
        line.pop(what, None)
    else:
        line[what] = text


def _change_header(header: dict[str, Any], what: str, number: int, text: str) -> None:
    if what == "status":
        header["status"] = ["active", "paused", "archived"][number % 3]
    elif what == "tags":
        header["tags"] = _tags(list(header.get("tags", [])), number)
    elif what in ("header metadata", "state"):
        name = what.removeprefix("header ")
        document = header[name] = dict(header.get(name, {}))
        key = "kl"[number % 2]
        if key in document and number > 3:
            del document[key]
        else:
            document[key] = text
    elif what == "created_at":
        header["created_at"] = "2020-01-01T00:00:00.000Z"
    elif number == 2:
        header.pop(what, None)
    else:
        header[what] = text


def _tags(tags: list[str], number: int) -> list[str]:
    tag = "xyz"[number % 3]
    if tag not in tags:
        tags.insert(number % (len(tags) + 1), tag)
    elif number % 2:
        tags.remove(tag)
    else:
        tags.reverse()
    return tags


def _program(desk: Desk, what: str, session: int, message: int, number: int, text: str) -> None:
    """What a program does through the library."""
    named, live = SESSIONS[session % 2], desk.live()
    if what in ("create", "restore"):
        {"create": desk.create, "restore": desk.restore}[what](named)
    elif what == "append to any":
        desk.append(named, text)
    elif live:
        id_ = live[session % len(live)]
        if what == "append":
            desk.append(id_, text)
        elif what == "delete":
            desk.delete(id_)
        elif what in ("title", "status", "state", "header metadata", "add tag", "remove tag"):
            _update(desk, id_, what, number, text)
        elif messages := [each.id for each in desk.store.messages(id_)]:
            _to_message(desk, id_, messages[message % len(messages)], what, number, text)


def _to_message(desk: Desk, session: str, id_: str, what: str, number: int, text: str) -> None:
    if what == "append behind":
        desk.append(session, text, id_)
    elif what in ("delete message", "purge message"):
        (desk.delete_message if what == "delete message" else desk.purge_message)(session, id_)
    else:
        desk.edit(session, id_, {what: {"ab"[number % 2]: text} if what == "metadata" else text})


def _update(desk: Desk, session: str, what: str, number: int, text: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "title": {"fields": {"title": " ".join(text.split()) or None}},
        "status": {"fields": {"status": ["active", "paused", "archived"][number % 3]}},
        "add tag": {"add_tags": ["xyz"[number % 3]]},
        "remove tag": {"remove_tags": ["xyz"[number % 3]]},
        "state": {"state": {"kl"[number % 2]: None if number == 7 else text}},
        "header metadata": {"metadata": {"kl"[number % 2]: None if number == 7 else text}},
    }
    desk.update(session, **changes[what])


# Shrinking


def size(steps: list[Step]) -> int:
    """How much there is to read, and of how many desks."""
    return len(repr(steps)) + sum(each.desk == "b" for each in steps)


def plainer(steps: list[Step]) -> Iterator[list[Step]]:
    """The same steps, one of them with a plainer value or at the first desk."""
    for at, step in enumerate(steps):
        for how in _plainer_values(step.how):
            yield [*steps[:at], step._replace(how=how), *steps[at + 1 :]]
        if step.desk != "a":
            yield [*steps[:at], step._replace(desk="a"), *steps[at + 1 :]]


def _plainer_values(values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for at, value in enumerate(values):
        plainer: list[Any] = []
        if isinstance(value, bool):
            plainer = [False]
        elif isinstance(value, int):
            plainer = [0, value // 2, value - 1]
        elif isinstance(value, str) and value in SAVES:
            plainer = ["in place"]
        elif isinstance(value, tuple):
            plainer = [value[:cut] + value[cut + 1 :] for cut in range(len(value)) if isinstance(value[0], tuple)]
            plainer += _plainer_values(value)
        for each in plainer:
            if each != value:
                yield (*values[:at], each, *values[at + 1 :])
