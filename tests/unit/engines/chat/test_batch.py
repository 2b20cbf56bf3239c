"""The batch makes the tokens that transformers makes from scratch, whoever shares it and whatever its rows hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engines.chat.llama.batch import Batch, Made
from engines.chat.llama.errors import BrokenReply, NoFreeSlot, OutOfMemory
from tests.unit.engines.chat.conftest import Small, prompt, run, tokens

LENGTHS = (3, 40, 17, 90)


@pytest.mark.parametrize("gathered", [False, True])
def test_replies_are_the_same_alone_and_in_ragged_company(small: Small, gathered: bool) -> None:
    batch = small.batch(gathered=gathered)
    made: dict[int, list[Made]] = {}
    numbers = []
    for length in LENGTHS:
        # Each joins while those before it are in the middle of theirs.
        numbers.append(batch.join(prompt(length), max_tokens=30))
        run(batch, made, piece=7, steps=3)
    run(batch, made, piece=7)
    for length, number in zip(LENGTHS, numbers, strict=True):
        alone = small.batch(gathered=gathered)
        reply = alone.join(prompt(length), max_tokens=30)
        lonely: dict[int, list[Made]] = {}
        run(alone, lonely)
        assert tokens(made[number]) == tokens(lonely[reply]) == small.generated(prompt(length), 30)


def test_a_turn_costs_only_its_new_tokens_and_answers_as_from_scratch(small: Small) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    history = prompt(50)
    for turn in range(4):
        number = batch.join(history, max_tokens=12, conversation="ann")
        read = run(batch, made)
        assert read == (50 if turn == 0 else 11)
        said = tokens(made[number])
        assert said == small.generated(history, 12)
        # The newest token was never computed on, as nothing followed it: it is new to the row.
        history = [*history, *said, *prompt(10, seed=turn)]


def test_a_new_conversation_reads_only_what_comes_after_the_personality(small: Small) -> None:
    batch = small.batch()
    personality = prompt(60)
    ann, ben = [*personality, *prompt(5, seed=1)], [*personality, *prompt(6, seed=2)]
    made: dict[int, list[Made]] = {}
    batch.join(ann, max_tokens=5, conversation="ann")
    assert run(batch, made) == 65
    number = batch.join(ben, max_tokens=20, conversation="ben")
    assert run(batch, made) == 6
    assert tokens(made[number]) == small.generated(ben, 20)
    # Ann's own row is still hers.
    batch.join([*ann, 7], max_tokens=1, conversation="ann")
    assert run(batch, made) == 1


def test_a_personality_is_shared_with_a_conversation_that_is_being_answered(small: Small) -> None:
    batch = small.batch()
    personality = prompt(60)
    made: dict[int, list[Made]] = {}
    first = batch.join([*personality, 5], max_tokens=40)
    run(batch, made, piece=100, steps=3)
    second = batch.join([*personality, 9, 9], max_tokens=40)
    assert run(batch, made) == 2
    assert tokens(made[first]) == small.generated([*personality, 5], 40)
    assert tokens(made[second]) == small.generated([*personality, 9, 9], 40)


def test_the_least_recently_used_conversation_gives_its_row_away(small: Small) -> None:
    batch = small.batch(slots=2, kept=2)
    made: dict[int, list[Made]] = {}
    for name, seed in (("ann", 1), ("ben", 2)):
        batch.join(prompt(30, seed), max_tokens=1, conversation=name)
        run(batch, made)
    batch.join([*prompt(30, 1), 4], max_tokens=1, conversation="ann")
    assert run(batch, made) == 1
    batch.join(prompt(30, 3), max_tokens=1, conversation="cem")
    assert run(batch, made) == 30
    batch.join([*prompt(30, 1), 4, 5], max_tokens=1, conversation="ann")
    assert run(batch, made) == 1
    batch.join([*prompt(30, 2), 4], max_tokens=1, conversation="ben")
    assert run(batch, made) == 31


def test_a_prompt_that_changes_in_the_middle_is_read_from_there(small: Small) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    batch.join(prompt(40), max_tokens=10, conversation="ann")
    run(batch, made)
    other = [*prompt(40)[:25], *prompt(15, seed=9)]
    number = batch.join(other, max_tokens=10, conversation="ann")
    assert run(batch, made) == 15
    assert tokens(made[number]) == small.generated(other, 10)


def test_a_prompt_asked_again_reads_its_last_token_only(small: Small) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    batch.join(prompt(40), max_tokens=10)
    run(batch, made)
    number = batch.join(prompt(40), max_tokens=10)
    assert run(batch, made) == 1
    assert tokens(made[number]) == small.generated(prompt(40), 10)


def test_one_that_leaves_frees_its_slot_at_once_and_disturbs_nobody(small: Small) -> None:
    batch = small.batch(slots=2)
    made: dict[int, list[Made]] = {}
    stays, leaves = batch.join(prompt(20), max_tokens=30), batch.join(prompt(30), max_tokens=30)
    run(batch, made, steps=6)
    with pytest.raises(NoFreeSlot):
        batch.join(prompt(5))
    batch.leave(leaves)
    batch.leave(leaves)
    before = len(made[leaves])
    comes = batch.join(prompt(10), max_tokens=30)
    run(batch, made)
    assert len(made[leaves]) == before
    assert tokens(made[stays]) == small.generated(prompt(20), 30)
    assert tokens(made[comes]) == small.generated(prompt(10), 30)


def test_the_shortest_rest_of_a_prompt_is_read_first(small: Small) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    batch.join(prompt(100), max_tokens=5)
    short = batch.join(prompt(10), max_tokens=5)
    run(batch, made, piece=10, steps=1)
    assert list(made) == [short]


def test_others_get_a_token_with_every_piece_of_a_joiners_prompt(small: Small) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    speaking = batch.join(prompt(10), max_tokens=60)
    run(batch, made, steps=1)
    batch.join(prompt(100), max_tokens=1)
    run(batch, made, piece=20, steps=5)
    assert len(made[speaking]) == 6


def test_a_reply_ends_with_the_models_own_end_which_is_no_token_of_it(small: Small) -> None:
    batch = small.batch()
    free = small.generated(prompt(12), 40)
    batch._ends = frozenset({free[5]})
    made: dict[int, list[Made]] = {}
    number = batch.join(prompt(12))
    run(batch, made)
    assert tokens(made[number]) == free[: free.index(free[5])]
    assert made[number][-1].ended and made[number][-1].token is None


def test_a_reply_ends_where_its_row_is_full(small: Small) -> None:
    batch = small.batch(context=64)
    made: dict[int, list[Made]] = {}
    number = batch.join(prompt(60))
    run(batch, made)
    assert len(tokens(made[number])) <= 4 and made[number][-1].ended
    with pytest.raises(BrokenReply, match="CHAT_CONTEXT"):
        batch.join(prompt(64))
    with pytest.raises(BrokenReply):
        batch.join([])


class Failing:
    """A model that fails in one of its steps, as `error` says."""

    def __init__(self, model: Any, step: int, error: Exception) -> None:
        self._model, self._left, self._error = model, step, error

    def __call__(self, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return self._model(**options)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), OutOfMemory),
        (ValueError("something odd"), BrokenReply),
    ],
)
def test_a_step_that_fails_breaks_the_newest_reply_only(small: Small, error: Exception, named: type) -> None:
    batch = small.batch()
    made: dict[int, list[Made]] = {}
    old = batch.join(prompt(20), max_tokens=20)
    run(batch, made, piece=20, steps=2)
    batch._model = Failing(small.model, 2, error)
    new = batch.join(prompt(30), max_tokens=20)
    run(batch, made, piece=10)
    assert isinstance(made[new][-1].error, named)
    assert tokens(made[old]) == small.generated(prompt(20), 20)
    again = batch.join(prompt(30), max_tokens=20)
    run(batch, made)
    assert tokens(made[again]) == small.generated(prompt(30), 20)


@pytest.mark.parametrize("gathered", [False, True])
def test_a_reply_whose_numbers_overflow_breaks_alone(small: Small, gathered: bool) -> None:
    batch = small.batch(gathered=gathered)
    made: dict[int, list[Made]] = {}
    well, ill = batch.join(prompt(20), max_tokens=20), batch.join(prompt(30), max_tokens=20)
    run(batch, made, piece=100, steps=3)
    row = next(reply.row for reply in batch._replies if reply.number == ill)
    with torch.inference_mode():
        batch._slots._layers[0][1][row, :, 3] = float("nan")
    run(batch, made)
    assert isinstance(made[ill][-1].error, BrokenReply)
    assert tokens(made[well]) == small.generated(prompt(20), 20)
    again: dict[int, list[Made]] = {}
    number = batch.join(prompt(30), max_tokens=20)
    run(batch, again)
    assert tokens(again[number]) == small.generated(prompt(30), 20)


def test_a_batch_that_was_reset_remembers_nothing(small: Small) -> None:
    batch: Batch = small.batch()
    batch.join(prompt(20), max_tokens=50)
    batch.step(100)
    batch.reset()
    assert batch.decoding == batch.prompting == 0
    made: dict[int, list[Made]] = {}
    batch.join(prompt(20), max_tokens=1)
    assert run(batch, made) == 20
