"The random numbers of the original programs, behind the methods of a generator of ours."

import random

import numpy as np


class Draws:
    """Answers as `np.random.Generator` would be asked, from the legacy generators of one seed.

    `python`: coins and samples without probabilities come from `random`, as in SimpleClick's
    sampler; else everything comes from NumPy.
    """

    def __init__(self, seed: int, python: bool = False):
        self.numpy, self.python = np.random.RandomState(seed), python and random.Random(seed)

    def random(self) -> float:
        return self.python.random() if self.python else self.numpy.rand()

    def integers(self, low: int, high: int) -> int:
        return int(self.numpy.randint(low, high))

    def uniform(self, low: float, high: float) -> float:
        return self.numpy.uniform(low, high)

    def normal(self, mean: float, spread: float) -> float:
        return self.numpy.normal(mean, spread)

    def choice(self, options, size=None, replace=True, p=None):
        if not self.python or p is not None:
            return self.numpy.choice(options, size=size, replace=replace, p=p)
        values = range(options) if isinstance(options, int) else list(options)
        if size is None:
            return self.python.choice(values)
        assert not replace
        return self.python.sample(values, size)
