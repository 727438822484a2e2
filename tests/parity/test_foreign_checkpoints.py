"The original programs' files load with stand-ins for exactly the names of originals.md §3."

import zipfile

import pytest
import torch

from seglab.checkpoints import CheckpointError, StandIn, read_pickle

LOSS = "isegm.model.modeling.transformer_helper.cross_entropy_loss"
NAMES = dict(
    plainvit=[f"{LOSS}.CrossEntropyLoss", f"{LOSS}.cross_entropy"],
    saic_models=["isegm.data.interaction_type.IType"],
)


@pytest.mark.parametrize("system", NAMES)
def test_original_checkpoints_load_with_their_names_only(parity, system):
    for file in sorted((parity / system).glob("original_format*.pth")):
        content = read_pickle(file, {name: StandIn for name in NAMES[system]})
        assert set(content) == {"state_dict", "config"}
        assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())
        assert content["config"]["class"].startswith("isegm.")
        with zipfile.ZipFile(file) as archive:
            needed = [
                n
                for n in NAMES[system]
                if n.rpartition(".")[2].encode() in archive.read(archive.namelist()[0])
            ]
        for left_out in needed:
            some = {name: StandIn for name in NAMES[system] if name != left_out}
            with pytest.raises(CheckpointError, match=f"refused, it wants {left_out}"):
                read_pickle(file, some)


def test_stand_ins_keep_what_the_file_said(parity):
    for file in sorted((parity / "saic_models").glob("original_format*.pth")):
        kinds = read_pickle(file, {name: StandIn for name in NAMES["saic_models"]})
        value = kinds["config"]["params"]["input_type"]["value"]
        values = value if isinstance(value, list) else [value]
        assert {kind.arguments[0] for kind in values} <= {"point", "contour", "stroke"}


def test_the_same_weights_as_the_plain_file(parity):
    for file in sorted((parity / "plainvit").glob("original_format*.pth")):
        state = read_pickle(file, {name: StandIn for name in NAMES["plainvit"]})["state_dict"]
        plain = [
            torch.load(f, weights_only=True) for f in (parity / "plainvit").glob("*.state_dict.pth")
        ]
        assert any(
            p.keys() == state.keys() and all(torch.equal(p[k], state[k]) for k in p) for p in plain
        ), f"{file}: equals none of the plain state dicts beside it"
