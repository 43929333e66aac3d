"""Messages, tokens and times are counted of what is shown, and nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.errors import SessionNotFound
from steno.storage.listing import Filter
from steno.storage.model import Json, NewMessage
from steno.storage.statistics import Tokens, all_statistics, statistics
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        yield opened


def talk(store: Store, session: str, *said: tuple[str, int], usage: dict[str, Json] | None = None) -> None:
    """Make a session of messages, each with its role and the second of its minute."""
    store.create(id=session)
    for role, second in said:
        time = f"2024-01-15T10:30:{second:02d}Z"
        store.append(session, NewMessage(role=role, content="x", timestamp=time, usage=usage))


def response(store: Store, *said: tuple[str, int]) -> float | None:
    talk(store, "s", *said)
    return statistics(store, "s").average_response_s


def test_messages_are_counted_by_role_the_most_frequent_first(store: Store) -> None:
    talk(store, "s", ("user", 0), ("tool", 1), ("tool", 2))
    found = statistics(store, "s")
    assert (found.messages, list(found.roles.items())) == (3, [("tool", 2), ("user", 1)])


def test_the_average_is_of_the_times_from_a_question_to_its_answer(store: Store) -> None:
    assert response(store, ("user", 0), ("assistant", 2), ("user", 10), ("assistant", 14)) == 3.0


def test_of_several_questions_in_a_row_the_last_one_waits(store: Store) -> None:
    assert response(store, ("user", 0), ("user", 8), ("assistant", 10)) == 2.0


def test_only_the_first_answer_counts(store: Store) -> None:
    assert response(store, ("user", 0), ("assistant", 1), ("tool", 5), ("assistant", 9)) == 1.0


def test_what_stands_between_question_and_answer_is_passed_over(store: Store) -> None:
    assert response(store, ("user", 0), ("system", 1), ("assistant", 4)) == 4.0


def test_an_answer_that_is_older_than_its_question_is_left_out(store: Store) -> None:
    assert response(store, ("user", 9), ("assistant", 1), ("user", 20), ("assistant", 21)) == 1.0


@pytest.mark.parametrize("said", [(), (("user", 0),), (("assistant", 0), ("user", 1))])
def test_without_an_answer_there_is_no_average(store: Store, said: tuple[tuple[str, int], ...]) -> None:
    assert response(store, *said) is None


def test_a_question_is_not_answered_by_another_session(store: Store) -> None:
    talk(store, "a", ("user", 0))
    talk(store, "b", ("assistant", 9))
    assert all_statistics(store, Filter()).spoken.average_response_s is None


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 2, "output_tokens": 3}, Tokens(4, 6, 10)),
        ({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 9}, Tokens(4, 6, 18)),
        ({"cost": 0.1}, None),
        (None, None),
    ],
)
def test_tokens_are_what_messages_say_by_any_of_their_names(
    store: Store, usage: dict[str, Json] | None, tokens: Tokens | None
) -> None:
    talk(store, "s", ("user", 0), ("assistant", 1), usage=usage)
    assert statistics(store, "s").tokens == tokens


def test_times_are_those_of_the_earliest_and_the_latest_message(store: Store) -> None:
    talk(store, "s", ("user", 5), ("user", 50), ("user", 20))
    found = statistics(store, "s")
    assert (found.first_message_at, found.last_message_at) == ("2024-01-15T10:30:05.000Z", "2024-01-15T10:30:50.000Z")
    assert found.duration_s == 45.0


def test_an_empty_session_has_no_times(store: Store) -> None:
    store.create(id="s")
    found = statistics(store, "s")
    assert (found.messages, found.duration_s, found.first_message_at, found.last_message_at) == (0, None, None, None)


def test_deleted_messages_are_not_counted(store: Store) -> None:
    talk(store, "s", ("user", 0), ("user", 1))
    store.delete_message("s", next(store.messages("s")).id)
    assert statistics(store, "s").messages == 1


def test_a_deleted_session_has_no_statistics(store: Store) -> None:
    talk(store, "s", ("user", 0))
    store.delete("s")
    with pytest.raises(SessionNotFound):
        statistics(store, "s")
    assert all_statistics(store, Filter()).spoken.messages == 0


def test_sessions_are_counted_by_status_and_provider_in_any_case(store: Store) -> None:
    for provider in ("OpenAI", "openai", None):
        store.create(provider=provider)
    store.create(status="archived")
    found = all_statistics(store, Filter())
    assert (found.sessions, found.statuses, found.providers) == (4, {"active": 3, "archived": 1}, {"openai": 2})


def test_only_the_sessions_of_a_filter_are_counted(store: Store) -> None:
    talk(store, "a", ("user", 0))
    talk(store, "b", ("user", 0), ("user", 1))
    store.update("b", fields={"provider": "p"}, add_tags=["go"])
    found = all_statistics(store, Filter(provider="P", tags=("go",)))
    assert (found.sessions, found.spoken.messages) == (1, 2)
