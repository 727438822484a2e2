"Whole episodes of SimpleClick's evaluation: clicks, probabilities and IoUs."

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from seglab.interact.episode import Rules, play
from seglab.interact.model import SimpleClick
from seglab.interact.patch import Patch, whole_picture
from seglab.interact.pictures import ObjectSample
from seglab.interact.predictor import Predictor
from seglab.pyramid import rename_original

from .test_plainvit import config_of
from .test_zoom_in import zoom_of


class Recorder(Predictor):
    "Keeps every answer as a whole picture."

    def begin(self, image: Tensor) -> None:
        super().begin(image)
        self.answers = []

    def see(self, interactions, before=None) -> Patch:
        patch = super().see(interactions, before)
        self.answers.append(whole_picture(patch)[0].numpy())
        return patch


def read_sample(arrays, name: str) -> ObjectSample:
    image = torch.from_numpy(arrays[f"{name}_image_u8"]).permute(2, 0, 1)
    target = np.where(arrays[f"{name}_gt"] == -1, 255, arrays[f"{name}_gt"]).astype(np.uint8)
    return ObjectSample(name, 1, image, torch.from_numpy(target)[None])


def test_episodes(parity):
    folder = parity / "eval_e2e"
    stored = json.loads((folder / "eval_e2e.json").read_text())
    arrays = np.load(folder / "eval_e2e.npz")
    net = SimpleClick(config_of(stored["model"])).eval()
    state = torch.load(folder / "state_dict.pth", weights_only=True)
    net.load_state_dict(rename_original(state, upsample=net.config.upsample)[0], strict=True)
    for case in stored["cases"]:
        predictor = Recorder(net, zoom_of(case["zoom_params"]), flip=case["with_flip"], paper=True)
        rules = Rules(
            budget=case["max_clicks"], goal=2, threshold=case["pred_thr"], protocol="paper"
        )
        episode = play(predictor, read_sample(arrays, f"e{case['case']}"), rules)
        steps = case.get("stable_prefix_under_logit_noise_1em4", case["max_clicks"])
        note = f"case {case['case']}"
        found = [[int(c.positive), c.y, c.x] for c in episode.interactions][:steps]
        assert found == case["clicks"][:steps], note
        assert episode.ious[:steps] == pytest.approx(case["ious"][:steps], abs=2e-4), note
        for step, wanted in enumerate(arrays[f"e{case['case']}_probs_s6"][:steps]):
            answer = predictor.answers[step]
            assert np.allclose(answer[::6, ::6], wanted, atol=1e-4), f"{note}, step {step}"
            area, true = (answer > case["pred_thr"]).sum(), case["area_per_step"][step]
            assert abs(area - true) <= 5, f"{note}, step {step}: {area} pixels, not {true}"
