"Lessons by number: the same for the same seed, others in every epoch."

import pytest
import torch
from torch.utils.data import DataLoader

from seglab.lessons import Lessons


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
