"""The model that answers, by the `llm` library: whatever has a plug-in for that answers here.

This is the only module that knows llm. Its errors, and those of every plug-in, become ours here, on one line and
without the key; nothing is written to llm's own log (tests/e2e/test_chat.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from ..storage.errors import MissingDriver, StenoError
from ..storage.model import Json
from .chat_context import Turn, exchanges, system_text

try:
    import llm
except ImportError as exc:
    if exc.name == "llm":
        raise MissingDriver(store="steno chat", extra="chat") from exc
    raise StenoError(f"llm cannot be used ({exc}): see whether `llm models` works") from exc

_TAKES_MESSAGES = hasattr(llm, "Message")
"""From llm 0.32 on; before that a model was told the past by its former answers alone."""
_MAX_REASON = 400


class UnknownModel(StenoError):
    """llm has no model of this name."""

    exit_code = 3
    hint = "`llm models` lists them, `llm install` brings plug-ins for more"

    def __init__(self, *, name: str, near: Sequence[str]) -> None:
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"llm knows no model {name}{meant}")


class NoKey(StenoError):
    """The model wants a key, and llm has none; nothing was asked."""

    def __init__(self, *, model: str, reason: str) -> None:
        super().__init__(f"{model}: {reason}")


class ModelFailed(StenoError):
    """The model did not answer, or broke off; what it had said is kept."""

    exit_code = 6
    retryable = True
    hint = "what was said is kept; go on with `steno chat --current`"

    def __init__(self, *, model: str, reason: str) -> None:
        super().__init__(f"{model} did not answer to the end ({reason})")


class Unusable(StenoError):
    """llm, or one of its plug-ins, does not come up."""

    hint = "see whether `llm models` works"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"llm cannot be used ({reason})")


class Answer:
    """What a model says, piece by piece; what it cost is known at the end."""

    def __init__(self, model: Model, response: llm.Response) -> None:
        self._model = model
        self._response = response

    def pieces(self) -> Generator[str]:
        """The pieces of text as they come; raises `ModelFailed`."""
        with self._model.failing():
            for piece in self._response:
                yield piece.encode(errors="replace").decode()  # half a character is none

    @property
    def usage(self) -> dict[str, Json] | None:
        """The tokens, as far as the model has said."""
        said = {"input_tokens": self._response.input_tokens, "output_tokens": self._response.output_tokens}
        counted: dict[str, Json] = {name: count for name, count in said.items() if isinstance(count, int)}
        details = self._response.token_details
        return counted | ({"details": details} if counted and isinstance(details, dict) and details else {}) or None


class Model:
    """A model of llm's."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._key: str | None = None
        self.id: str = model.model_id
        self.provider = provider_of(type(model).__module__)

    def require_key(self) -> None:
        """Raise `NoKey` where the model wants one and there is none."""
        try:
            self._key = self._model.get_key()
        except llm.NeedsKeyException as exc:
            raise NoKey(model=self.id, reason=_one_line(str(exc))) from None

    def answer(self, told: Sequence[Turn]) -> Answer:
        """Ask; the last turn is the question. Raises `ModelFailed`."""
        *past, last = told
        system = system_text(told) or None
        with self.failing():
            conversation = self._model.conversation()
            conversation.responses = [self._former(conversation, *pair, system=system) for pair in exchanges(past)]
            history = {"messages": [getattr(llm, turn.role)(turn.text) for turn in past]} if _TAKES_MESSAGES else {}
            response = conversation.prompt(last.text, system=system, stream=bool(self._model.can_stream), **history)
        return Answer(self, response)

    def _former(self, conversation: Any, asked: str, answered: str, *, system: str | None) -> Any:
        """An answer of earlier, for plug-ins that are told the past so; made as llm makes those that it logged."""
        prompt = llm.Prompt(asked, model=self._model, system=system)
        response = llm.Response(prompt, self._model, False, conversation)
        response._chunks = [answered]  # noqa: SLF001  there is no other way to say what was answered
        response._done = True  # noqa: SLF001  as above
        return response

    @contextmanager
    def failing(self) -> Generator[None]:
        """Turn whatever a plug-in raises into `ModelFailed`."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001  a plug-in may raise anything
            said = _one_line(str(exc)) or type(exc).__name__
            said = said.replace(self._key, "…") if self._key else said
            raise ModelFailed(model=self.id, reason=said[:_MAX_REASON]) from None


def find_model(name: str | None) -> Model:
    """The model of this name or alias, None for llm's default; raises `UnknownModel`."""
    try:
        known = llm.get_model_aliases()
        wanted = name or llm.get_default_model()
    except Exception as exc:  # a plug-in may raise anything
        raise Unusable(reason=_one_line(f"{type(exc).__name__}: {exc}")[:_MAX_REASON]) from exc
    if wanted not in known:
        raise UnknownModel(name=wanted, near=_near(wanted, list(known)))
    return Model(known[wanted])


def provider_of(module: str) -> str:
    """Whose models a plug-in brings, by the name of its module: ``llm_anthropic`` is anthropic's."""
    if module.startswith("llm.default_plugins."):
        return module.rpartition(".")[2].removesuffix("_models")
    return module.partition(".")[0].removeprefix("llm_")


def _near(name: str, known: list[str]) -> list[str]:
    folded = {each.casefold(): each for each in known}
    holding = [each for each in folded if name.casefold() in each]
    return [folded[each] for each in (holding or get_close_matches(name.casefold(), folded, n=3))[:3]]


def _one_line(text: str) -> str:
    return " ".join(text.split())
