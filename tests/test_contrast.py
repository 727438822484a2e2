"Colours beside a mask and beside marked places."

import torch

from seglab.contrast import colour_contrast, colour_likeness


def test_likeness_is_that_of_the_nearest_mark_and_not_of_the_mean():
    image = torch.zeros(1, 3, 32, 64)
    image[:, 0, :, :16] = 2  # red, black, and blue at the other end
    image[:, 2, :, 48:] = 2
    marks = torch.zeros(1, 1, 32, 64)
    marks[..., 8:16, 0:8] = marks[..., 8:16, 56:64] = 1
    likeness = colour_likeness(image, marks)[0, 0]
    assert likeness[:, :14].min() > 0.99 and likeness[:, 50:].min() > 0.99
    assert likeness[:, 20:44].max() < 0.1


def test_kinds_of_marks_do_not_mix_and_no_mark_is_no_likeness():
    image = torch.rand(2, 3, 32, 32)
    marks = torch.zeros(2, 2, 32, 32)
    marks[0, 0, :8, :8] = 1
    likeness = colour_likeness(image, marks)
    assert likeness[0, 0].max() > 0 and not likeness[0, 1].any() and not likeness[1].any()


def test_hints_carry_no_gradient():
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    mask = torch.ones(1, 1, 32, 32)
    assert not colour_likeness(image, mask).requires_grad
    assert not colour_contrast(image, mask).requires_grad
