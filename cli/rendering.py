"""How a message's content reads as text: what was said as it stands, everything else by its kind."""

from __future__ import annotations

from ..storage.model import Content, Json
from .terminal import one_line_json

_DATA = ("data", "image_url", "file_data")


def readable(content: Content) -> str:
    """The whole content as text: prose as it was written, tool traffic as JSON, binary data by its size."""
    if isinstance(content, str):
        return content
    return "\n\n".join(map(_block, content))


def _block(block: dict[str, Json]) -> str:
    kind = block["type"]
    for key in ("text", "thinking"):
        if isinstance(block.get(key), str):
            return block[key] if kind == "text" else f"[{kind}] {block[key]}"
    if kind == "tool_use":
        return f"[tool_use {block.get('name', '')}] {one_line_json(block.get('input', {}))}"
    if kind == "tool_result":
        return f"[tool_result] {_result(block.get('content'))}"
    return f"[{kind}] {one_line_json(_without_data({key: value for key, value in block.items() if key != 'type'}))}"


def _result(content: Json) -> str:
    if isinstance(content, list) and all(isinstance(each, dict) and "type" in each for each in content):
        return readable(content)
    return content if isinstance(content, str) else one_line_json(content)


def _without_data(value: Json) -> Json:
    """A JSON value with long binary data replaced by its length."""
    if isinstance(value, dict):
        return {key: _size(item) if key in _DATA else _without_data(item) for key, item in value.items()}
    return [_without_data(item) for item in value] if isinstance(value, list) else value


def _size(value: Json) -> Json:
    return f"({len(value)} characters)" if isinstance(value, str) and len(value) > 200 else _without_data(value)
