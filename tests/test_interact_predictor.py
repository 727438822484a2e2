"A network asked about pictures of any size, against a plain formulation of the same."

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seglab.core import ConfigError
from seglab.interact.baselines import ColourNet, GrabCut
from seglab.interact.data import Click, Contour, encode
from seglab.interact.predictor import Predictor, View, make_predictor
from seglab.interact.zoom import Box, Zoom
from seglab.synthetic import draw_scene


@pytest.fixture(scope="module")
def scene():
    return draw_scene(53, side=96, objects=2)


CLICKS = [Click(60, 66), Click(30, 30, positive=False)]


def test_whole_picture_equals_the_plain_way(scene):
    image = (scene.image * 255).byte()
    net, predictor = ColourNet(), Predictor(ColourNet(), fixed=(48, 40), flip=False)
    predictor.begin(image)
    found = predictor.predict(CLICKS)
    small = F.interpolate(image[None] / 255, (48, 40), mode="bilinear", align_corners=True)
    clicks = [Click(48 * c.y / 96, 40 * c.x / 96, c.positive) for c in CLICKS]
    maps = encode(clicks, (48, 40))[None]
    probs = net(small, torch.zeros(1, 1, 48, 40), maps)["logits"].sigmoid()
    wanted = F.interpolate(probs, (96, 96), mode="bilinear", align_corners=True)[0]
    assert torch.allclose(found, wanted, atol=1e-5)
    predictor.begin(scene.image)  # floats are as good
    assert (predictor.predict(CLICKS) - found).abs().max() < 0.05


def test_the_last_answer_is_read_unless_another_is_given(scene):
    class Echo(ColourNet):
        def forward(self, image, before, maps):
            return dict(logits=20 * (before - 0.5))

    predictor = Predictor(Echo(), flip=True)
    predictor.begin(scene.image)
    assert predictor.predict([]).max() < 0.01
    loaded = scene.visible[1].float()
    assert ((predictor.predict([], before=loaded) > 0.5) == scene.visible[1]).all()
    assert ((predictor.predict([]) > 0.5) == scene.visible[1]).all()


def test_mirrored_answers_are_averaged_as_logits(scene):
    class Lopsided(nn.Module):
        config = ColourNet().config

        def forward(self, image, before, maps):
            return dict(logits=torch.linspace(-4, 4, image.shape[-1]).expand(before.shape))

    predictor = Predictor(Lopsided(), flip=True)
    predictor.begin(scene.image)
    assert torch.allclose(predictor.predict([]), torch.full((1, 96, 96), 0.5), atol=1e-6)


def test_networks_of_one_kind_at_a_time_see_the_latest_only(scene):
    seen = []

    class Spy(ColourNet):
        def forward(self, image, before, maps):
            seen.append(maps.flatten(2).amax(dim=-1)[0])
            return super().forward(image, before, maps)

    net = Spy(replace(ColourNet().config, accumulate=False))
    predictor = Predictor(net, flip=False)
    predictor.begin(scene.image)
    predictor.predict([*CLICKS, Contour([(5, 5), (5, 20), (20, 20), (20, 5)])])
    assert seen[-1].tolist() == [0, 0, 1, 0, 0, 0]
    limited = Predictor(Spy(), flip=False, limit=1)
    limited.begin(scene.image)
    limited.predict(CLICKS)
    assert seen[-1].tolist() == [1, 0, 0, 0, 0, 0], "the first click only"


def test_half_precision_agrees(scene):
    masks = []
    for precision in ("no", "bf16"):
        predictor = make_predictor(ColourNet(), "whole", precision=precision)
        predictor.begin(scene.image)
        masks.append(predictor.predict(CLICKS) > 0.5)
    assert (masks[0] == masks[1]).float().mean() > 0.97


def test_stale_boxes_are_a_matter_of_protocol(scene):
    class Fickle(ColourNet):
        "Finds a square, then nothing, then everything."

        calls = 0

        def forward(self, image, before, maps):
            self.calls += 1
            logits = torch.full_like(before, 9.0 if self.calls > 2 else -9.0)
            if self.calls == 1:
                logits[..., 30:50, 30:50] = 9
            return dict(logits=logits)

    areas = {}
    for paper in (False, True):
        zoom = Zoom((48, 48), skip=0, least=20)
        predictor = Predictor(Fickle(), zoom, flip=False, paper=paper)
        predictor.begin(scene.image)
        clicks = [Click(40, 40), Click(42, 42)]
        predictor.predict(clicks[:1])  # finds the square, and looks again: nothing
        areas[paper] = (predictor.predict(clicks) > 0.5).sum().item()
    assert areas[False] == 96 * 96 and 0 < areas[True] < 2000


def test_bad_input_is_refused(scene):
    predictor = Predictor(ColourNet())
    with pytest.raises(ValueError, match=r"call begin\(image\) first"):
        predictor.predict(CLICKS)
    with pytest.raises(ValueError, match=r"needs axes \(3 H W\), got shape \(1, 3, 96, 96\)"):
        predictor.begin(scene.image[None])
    predictor.begin(scene.image)
    with pytest.raises(ValueError, match="the click at row 200, column 5 lies outside"):
        predictor.predict([Click(200, 5)])
    with pytest.raises(ValueError, match="the contour at row -40"):
        predictor.predict([Contour([(-40, 5), (-30, 5), (-30, 9)])])
    with pytest.raises(ConfigError, match="unknown precision 'half'"):
        Predictor(ColourNet(), precision="half")
    with pytest.raises(ConfigError, match="unknown way to evaluate 'cvpr'"):
        make_predictor(ColourNet(), "cvpr")


def test_a_view_goes_through_every_size(scene):
    view = View(Box(10, 20, 60, 40), ((60, 40), (30, 20), (16, 16)))
    assert view.show(scene.image).shape == (3, 16, 16)
    assert view.bring(Click(40, 40)) == Click(8, 8)
    assert view.back(torch.zeros(2, 1, 16, 16)).shape == (30, 20), "the patch does the rest"


def test_grabcut_answers_like_a_predictor(scene):
    method = GrabCut()
    with pytest.raises(ValueError, match="call begin"):
        method.see(CLICKS)
    method.begin((scene.image * 255).byte())
    probs = method.predict(CLICKS)
    assert probs[0, 60, 66] == 1 and probs[0, 30, 30] == 0
    assert method.predict([]).shape == (1, 96, 96), "nothing was said yet"
    with pytest.raises(ValueError, match="needs axes"):
        method.begin(scene.image[0])
