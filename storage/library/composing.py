"""Messages of what a call gives: a dict, a role and its text, or fields one by one.

What no store would keep is refused here: a session that holds it could not be saved again
(tests/library/test_wrong_arguments.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..document import merged
from ..errors import InvalidInput
from ..model import (
    EXTRA,
    ROLES,
    Json,
    Message,
    check_content,
    check_message_id,
    check_object,
    check_text,
    format_ms,
)
from ..rows import check_size, content_column, encode_json
from .dicts import check_fields, from_dict, usage_of, without_extra

_FIELDS = ("id", "timestamp", "sender", "parent", "model", "usage", "metadata")
_NAMED = (*_FIELDS, "token_usage", "cost")
_CHANGEABLE = {"content", "sender", "model", "usage", "metadata"}


class Composer:
    """Makes the messages of one session; ``is_message`` says whether it has one of an id."""

    def __init__(
        self, *, clock: Callable[[], int], ids: Callable[[int], str], is_message: Callable[[str], bool]
    ) -> None:
        self._clock, self._ids, self._is_message = clock, ids, is_message

    def new_id(self) -> str:
        """A message id that nothing else has; it sorts by birth."""
        return f"m-{self._clock():011x}{self._ids(8)}"

    def made(
        self,
        message: Mapping[str, Json] | str | None,
        content: Any = None,
        role: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Message:
        """The message that the arguments of `Session.add_message` mean; raises `InvalidInput`."""
        given = {} if more is None else more
        if isinstance(message, Mapping):
            made = self._of_dict({**message, **given})
        else:
            made = self._of_fields(_role(message, role), content, given)
        _check_size(made)
        return made

    def _of_dict(self, given: Mapping[str, Json]) -> Message:
        id_, timestamp = self._free_id(given.get("id")), format_ms(self._clock())
        return from_dict(given, id=id_, timestamp=timestamp, is_message=self._is_message)

    def _of_fields(self, role: str, content: Any, given: Mapping[str, Any]) -> Message:
        fields: dict[str, Any] = {name: given[name] for name in _FIELDS if given.get(name) is not None}
        fields.setdefault("timestamp", format_ms(self._clock()))
        if "parent" in fields and not self._is_message(check_text(fields["parent"], "parent")):
            raise InvalidInput(f"there is no message {fields['parent']} in this session to reply to")
        fields["id"] = self._free_id(fields.get("id"))
        usage = usage_of(given.get("token_usage"), given.get("cost"))
        if usage:
            fields.setdefault("usage", usage)
        extra = {key: value for key, value in given.items() if key not in _NAMED and value is not None}
        if extra:
            fields["metadata"] = {**fields.get("metadata", {}), EXTRA: check_object(extra, "a message")}
        text: Any = "" if content is None and "tool_calls" in extra else content
        return check_fields(Message(**fields, role=role, content=text))

    def _free_id(self, wanted: Json) -> str:
        """The id that was asked for if it can be had, else a new one."""
        if wanted is None:
            return self.new_id()
        try:
            taken = self._is_message(check_message_id(wanted))
        except InvalidInput:
            taken = True
        return self.new_id() if taken else wanted


def changed(old: Message, fields: Mapping[str, Json]) -> Message:
    """A message with other fields, metadata merged; raises `InvalidInput`."""
    unknown = fields.keys() - _CHANGEABLE
    if unknown:
        raise InvalidInput(f"a message has no field {', '.join(sorted(unknown))} that can be changed")
    if "content" in fields:
        check_content(fields["content"])
    bare = without_extra(old, fields)
    metadata = merged(bare.metadata, check_object(fields.get("metadata", {}), "metadata"))
    new = check_fields(msgspec.structs.replace(bare, **{**fields, "metadata": metadata}))
    _check_size(new)
    return new


def _role(word: Any, role: str | None) -> str:
    """The role that a message is to have: any that was named as such, or a word of `ROLES`."""
    if word is not None and word not in ROLES:
        if not isinstance(word, str):
            raise InvalidInput(
                f"a message is a dict, or a role and its text, not a value of type {type(word).__name__}"
            )
        raise InvalidInput(f"invalid role: {word:.60} (valid: {', '.join(ROLES)})", hint="any other goes as role=…")
    chosen = word if role is None else role
    if chosen is None:
        raise InvalidInput("a message must have a role")
    return chosen


def _check_size(message: Message) -> None:
    more = [encode_json(part) for part in (message.usage, message.metadata) if part]
    check_size(content_column(message.content), *more)
