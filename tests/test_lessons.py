"Lessons by number: the same for the same seed, others in every epoch; and what is kept of them."

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seglab.lessons import Kept, Lessons


class Numbers(Lessons):
    def make(self, index, generator):
        return dict(index=index, drawn=torch.tensor(generator.random()))


def drawn(lessons: Lessons, workers: int = 0) -> torch.Tensor:
    loader = DataLoader(lessons, batch_size=2, num_workers=workers)
    return torch.cat([batch["drawn"] for batch in loader])


def test_a_lesson_depends_on_seed_epoch_and_index_alone() -> None:
    first = drawn(Numbers("abc", count=6))
    assert len(first.unique()) == 6
    assert torch.equal(first, drawn(Numbers("abc", count=6), workers=2))
    alone = Numbers("abc", count=6)[4]
    assert alone["index"] == 4 and alone["drawn"] == first[4]
    assert not (first == drawn(Numbers("abc", count=6, seed=1))).any()


def test_every_epoch_draws_others_and_can_be_had_again() -> None:
    lessons = Numbers("abc", count=6)
    first = drawn(lessons)
    lessons.set_epoch(1)
    assert not (first == drawn(lessons)).any()
    lessons.set_epoch(0)
    assert torch.equal(first, drawn(lessons))


def test_there_are_as_many_as_pictures_or_as_asked_for() -> None:
    assert len(Numbers("abc")) == 3 and len(Numbers("abc", count=7)) == 7
    for index in (-1, 3):
        with pytest.raises(IndexError, match=str(index)):
            Numbers("abc")[index]


def test_a_system_must_say_how_a_lesson_is_made() -> None:
    with pytest.raises(NotImplementedError):
        Lessons("abc")[0]


def test_memory_keeps_within_its_budget_and_answers_rightly_beyond_it() -> None:
    kept, made = Kept(budget=1000), []

    def make(size: int) -> tuple[torch.Tensor, ...]:
        made.append(size)
        return torch.full((size,), 7, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)

    for size in (300, 250, 200, 1, 300, 250, 200, 1):
        first, second = kept(make, size)
        assert len(first) == len(second) == size and (first == 7).all()
    held = [tensor for answer in kept.answers.values() for tensor in answer]
    assert sum(tensor.nbytes for tensor in held) == 1000 - kept.free == 1000
    assert made == [300, 250, 200, 1, 250, 1], "250 and 1 no longer fitted, 300 and 200 were kept"


def test_two_makers_of_the_same_question_are_told_apart() -> None:
    kept = Kept()
    assert kept(lambda n: torch.full((1,), n), 3) == 3
    assert kept(lambda n: torch.full((1,), -n), 3) == -3


def test_an_array_counts_with_all_its_bytes() -> None:
    kept = Kept(budget=10)
    kept(np.zeros, 2)  # 16 bytes
    assert not kept.answers
    kept(np.zeros, 1)
    assert kept.free == 2
