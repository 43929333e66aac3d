"""A conversation that is a tree, as sessions: the path that its user saw last, and a fork for every other branch.

    a ─ b ─ c ─ d        seen last: a b c d
        │   └─ e         a fork at b, of the first:   a b c e → its own is e, forked at c
        └─ f             and                          a b f   → its own is f, forked at b

A fork is named by the first message of its own, so that the same export gives the same sessions
(tests/unit/test_transcript_chatgpt.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from ..model import NewMessage
from .transcript import Draft, Reading, Transcript, assemble, usable_id

MOST_COPIES = 200_000
"""How many messages the forks of one conversation may repeat; beyond it a fork holds its own messages only."""


class Node(msgspec.Struct):
    """A place in the tree; the roots, and what says nothing, have no draft."""

    id: str
    parent: str | None
    draft: Draft | None = None


def sessions_of(
    whole: Transcript, nodes: Mapping[str, Node], leaf: str | None, reading: Reading
) -> Iterator[Transcript]:
    """The session of a tree and its forks. ``whole`` is the session without messages, ``leaf`` where its user was."""
    children: dict[str | None, list[str]] = {}
    for each in nodes.values():
        children.setdefault(each.parent if each.parent in nodes else None, []).append(each.id)
    main = _upwards(nodes, leaf if leaf in nodes else _latest_leaf(children, None))
    owner: dict[str, str] = dict.fromkeys(main, whole.id)
    paths: list[tuple[str, list[str]]] = [(whole.id, main)]
    at = copied = 0
    done: dict[str, tuple[Transcript, list[str]]] = {}
    others = iter(nodes)  # what hangs on nothing but itself, in a circle, is found at last
    while at < len(paths):
        name, path = paths[at]
        at += 1
        made, copies = _session(whole, nodes, name, path, owner, done, keep=copied < MOST_COPIES, reading=reading)
        copied += copies
        done[name] = made, path
        if at == 1 or any(owner[node] == name and nodes[node].draft for node in path):
            yield made
        roots = children.get(None, []) if at == 1 else []
        own = [node for node in path if owner[node] == name]
        starts = [*roots, *(below for node in own for below in children.get(node, []))]
        if at == len(paths) and all(start in owner for start in starts):
            starts = list(islice((each for each in others if each not in owner), 1))
        for start in starts:
            if start in owner:
                continue
            branch = f"{whole.id}~{usable_id(start) or len(paths)}"
            below = _downwards(children, start, owner)
            owner.update(dict.fromkeys(below, branch))
            parent = nodes[start].parent
            above = path[: path.index(parent) + 1] if parent in path else []
            paths.append((branch, [*above, *below]))


def _session(
    whole: Transcript, nodes: Mapping[str, Node], name: str, path: list[str], owner: Mapping[str, str],
    done: Mapping[str, tuple[Transcript, list[str]]], *, keep: bool, reading: Reading,
) -> tuple[Transcript, int]:  # fmt: skip
    """The session of one path, and how many messages in it are copies."""
    drafts = [(node, draft) for node in path if (draft := nodes[node].draft) is not None]
    own = [(node, draft) for node, draft in drafts if owner[node] == name]
    copies = [(node, draft) for node, draft in drafts if owner[node] != name]
    if name == whole.id:
        return msgspec.structs.replace(whole, messages=assemble(_fresh(own), reading)), 0
    taken = copies if keep else []
    owners = {draft.id: owner[node] for node, draft in copies}
    messages = [
        _copy(message, owners[message.id]) if message.id in owners else message
        for message in assemble(_fresh([*taken, *own]), reading)
    ]
    original = owner[copies[-1][0]] if copies else whole.id
    stated: dict[str, Any] = {"session": original, "message": copies[-1][1].id if copies else None}
    above = done[original][0].forked_from
    if above:
        stated["above"] = [above["session"], *above.get("above", [])]
    fork = msgspec.structs.replace(
        whole, id=name, title=f"Fork of {whole.title}" if whole.title else None, forked_from=stated,
        source={**whole.source, "branch": name.removeprefix(f"{whole.id}~")}, messages=messages,
    )  # fmt: skip
    return fork, len(taken)


def _fresh(drafts: list[tuple[str, Draft]]) -> Iterator[Draft]:
    return (msgspec.structs.replace(draft) for _, draft in drafts)


def _copy(message: NewMessage, session: str) -> NewMessage:
    return msgspec.structs.replace(message, origin={"session": session, "message": message.id})


def _upwards(nodes: Mapping[str, Node], leaf: str | None) -> list[str]:
    """The path from the root to a node; a circle ends it."""
    path: dict[str, None] = {}
    while leaf is not None and leaf in nodes and leaf not in path:
        path[leaf] = None
        leaf = nodes[leaf].parent
    return list(path)[::-1]


def _downwards(children: Mapping[str | None, list[str]], start: str, owner: Mapping[str, str]) -> list[str]:
    """The path from a node to its last leaf: the youngest child each time."""
    path, seen = [start], {start}
    while True:
        below = [each for each in children.get(path[-1], []) if each not in seen and each not in owner]
        if not below:
            return path
        path.append(below[-1])
        seen.add(below[-1])


def _latest_leaf(children: Mapping[str | None, list[str]], root: str | None) -> str | None:
    """The leaf that the youngest children lead to."""
    below, seen = children.get(root, []), {root}
    found = root
    while below and below[-1] not in seen:
        found = below[-1]
        seen.add(found)
        below = children.get(found, [])
    return found
