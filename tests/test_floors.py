"The arrows of the house: every module imports only from the floors below it."

import ast
from pathlib import Path

import pytest

SYSTEMS = ("trimap", "fusion", "walls", "hybrid", "interact")
FLOORS = {
    0: "core",
    1: "io synthetic boundary layers encoders checkpoints losses metrics matting show parameters "
    "lessons inpaint overlaps foreign",
    2: "train evaluate launch runs",
    3: "fitting touch",
    4: " ".join(SYSTEMS),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
SIDEWAYS = {
    ("synthetic", "boundary"),
    ("metrics", "boundary"),
    ("encoders", "checkpoints"),
    ("foreign", "checkpoints"),
    ("inpaint", "boundary"),
    ("inpaint", "checkpoints"),
    ("overlaps", "synthetic"),
}
# a page that outgrew its size is split; a part lives where its whole does, and never imports it
SPLIT = {
    "synthetic": "painting creatures things backdrops people patterns finishes stage furniture "
    "sites rooms",
    "layers": "pyramid positions contrast",
    "checkpoints": "weights",
    "metrics": "instances regions",
    "train": "rates history guards shares sharding state memory",
}
PARTS = {part: whole for whole, parts in SPLIT.items() for part in parts.split()}
PACKAGES = {"seglab", "seglab.touch", *(f"seglab.{system}" for system in SYSTEMS)}
INSIDE = {
    "pretrained": {"labels", "model"},  # reads weights of other programs into the model
    "threshold": {"task"},  # the width of the band, chosen after training
    "scores": {  # what a network is worth
        "baselines",
        "blend",
        "data",
        "holes",
        "labels",
        "metrics",
        "order",
        "pairs",
        "perceptual",
        "pictures",
        "rough",
        "see",
        "task",
    },
    "benchmarks": {"pictures"},  # the sets of the field, as their authors ship them
    "comparison": {"pictures", "rough", "scores"},  # scores on them beside the published ones
    "pictures": {"labels", "rough", "textures"},  # with their truth, before they become lessons
    "data": {  # lessons
        "cutouts",
        "folders",
        "labels",
        "layout",
        "pairs",
        "pictures",
        "rough",
        "simulate",
        "textures",
    },
    "sets": {"data", "pairs"},  # data sets as their authors ship them
    "store": {"pairs"},  # the same, in one file
    "prepare": {"folders", "holes", "layout", "pairs", "results", "store"},  # writing it
    "simulate": {"holes", "order"},  # completions as a network would have painted them
    "layout": {"holes"},  # the same samples, as files
    "cutouts": {"layout"},  # scenes of photographed objects
    "folders": {"holes", "layout"},  # folders of them
    "results": {"layout", "simulate"},  # what a completion model wrote
    "files": {"blend", "folders", "layout", "order", "task"},  # files in, files out
    "baselines": {"blend", "order"},  # answers without a network
    "occlusion": {"holes", "order"},  # who covers whom, in annotated photographs
    "slots": {"blend"},  # what follows from logits
    "model": {"blend", "labels", "order", "parts", "slots"},  # a network and what it is built of
    "encdec": {"slots"},  # another network, called alike
    "speed": {"model", "parts"},  # the same answers, faster
    "export": {"model"},  # for other programs
    "policies": {"labels"},  # which classes are wall
    "boxes": {"labels"},  # what a front end sends
    "repair": {"boxes", "fill", "labels"},  # a wall without its furniture
    "look": {"labels", "repaint"},  # pictures of it
    "align": {"shifts"},  # where views lie on each other
    "compose": {"align"},  # laid on each other
    "stitch": {"align", "compose", "shifts"},  # both
    "plan": {  # a run from flat parameters
        "benchmarks",
        "data",
        "encdec",
        "matching",
        "model",
        "pairs",
        "perceptual",
        "pictures",
        "pretrained",
        "rough",
        "sets",
        "simulate",
        "store",
    },
    "task": {  # everything a system can do with a network
        "blend",
        "data",
        "holes",
        "labels",
        "layout",
        "matching",
        "metrics",
        "model",
        "order",
        "pairs",
        "perceptual",
        "pictures",
        "plan",
        "policies",
        "refine",
        "robot",
        "see",
        "segment",
        "slots",
    },
}

INTERACT = {  # the same for interact, whose chapter is the longest: module -> siblings
    "pictures": "",  # pictures with objects
    "cocolvis": "pictures",
    "packing": "",
    "prepare": "packing pictures",
    "sets": "cocolvis pictures",
    "choice": "pictures",
    "drawn": "pictures",
    "sources": "choice cocolvis drawn pictures sets",
    "lessons": "choice data first pictures sources",
    "segformer": "model",  # networks
    "hrnet": "model segformer",
    "small": "model",
    "networks": "data hrnet model segformer small",
    "renaming": "hrnet model segformer",
    "pretrained": "hrnet model renaming segformer",
    "packed": "",
    "speed": "hrnet model packed segformer",
    "plain": "model segformer",
    "robot": "data depth",  # robots that click and draw
    "first": "data robot",
    "lines": "data first",
    "strokes": "data first robot",
    "elastic": "deform",
    "contours": "data deform elastic robot",
    "selectors": "data",
    "zoom": "data",  # geometry
    "patch": "zoom",
    "predictor": "data patch zoom",
    "baselines": "data patch zoom",
    "plan": "lessons networks model pretrained data",  # training
    "rounds": "contours data model robot strokes",
    "task": "data patch plan predictor robot rounds",
    "episode": "contours data first patch pictures robot selectors strokes zoom",  # the benchmark
    "benchmark": "episode pictures sets",
    "tables": "",
    "files": "data robot task",
    "moments": "data patch",  # one sitting
    "session": "data files moments patch predictor zoom",
    "pointing": "data files patch session zoom",
    "widget": "data pointing predictor session zoom",
}
TOUCH = dict(  # widgets that know no system: module -> siblings
    canvas="layers page",
    viewers="canvas layers",
    cutout="layers",
    matte="canvas cutout latest layers page",
    runs="page shelf sheet",
)
TABLES = dict(interact=INTERACT, touch=TOUCH)


def imports(source: str, module: str) -> set[str]:
    "Modules of seglab that `module` imports, named from seglab on, such as 'trimap.model'."
    found = set()
    here = ["seglab", *module.split(".")]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            path = ".".join([*base, *filter(None, [node.module])])
            # `from seglab.trimap import model` names the module only in its second half
            package = path in PACKAGES
            found |= {f"{path}.{alias.name}" for alias in node.names} if package else {path}
    ours = {name.removeprefix("seglab.") for name in found if name.startswith("seglab.")}
    return {name for name in ours if not name.startswith("_")}  # __version__ is no module


def forbidden(module: str, imported: str) -> str | None:
    "Why `module` must not import `imported`, or None if it may."
    (here, *inner), (there, *other) = module.split("."), imported.split(".")
    floor, below = PARTS.get(here, here), PARTS.get(there, there)
    for name in (floor, below):
        if name not in FLOOR:
            return f"{name} stands on no floor: list it in FLOORS or SPLIT"
    if here != there:
        down = FLOOR[below] < FLOOR[floor] or (floor, below) in SIDEWAYS
        split = floor == below and there in PARTS
        return None if down or split else f"{module} imports {imported}, which is not below it"
    part = inner[0] if inner else ""
    allowed = TABLES[here].get(part, "").split() if here in TABLES else INSIDE.get(part, set())
    return None if other and other[0] in allowed else f"{module} imports its sibling {imported}"


def test_every_arrow_points_down(repository: Path) -> None:
    package = repository / "seglab"
    wrong = []
    for file in sorted(package.rglob("*.py")):
        module = ".".join(file.relative_to(package).with_suffix("").parts)
        if not file.name.startswith("_"):
            # every module may import core if it stands on a floor at all
            names = imports(file.read_text(encoding="utf-8"), module) | {"core"} - {module}
            wrong += [reason for name in sorted(names) if (reason := forbidden(module, name))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hybrid.task", "from ..trimap.model import TrimapModel"),
        ("hybrid.task", "from seglab.trimap import model"),
        ("losses", "from .metrics import mask_iou"),
        ("losses", "from . import train"),
        ("losses", "from .painting import Canvas"),
        ("painting", "from .synthetic import draw_scene"),
        ("core", "import seglab.io"),
        ("trimap.model", "from .data import dataset"),
        ("trimap.data", "def late():\n    from seglab.trimap.task import step"),
        ("interact.widget", "from .task import predict"),
        ("train", "from .evaluate import evaluate"),
        ("helpers", "from .core import IGNORE"),
    ],
)
def test_an_arrow_that_points_up_or_sideways_is_found(module: str, source: str) -> None:
    assert [name for name in imports(source, module) if forbidden(module, name)]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trimap.task", "from ..core import IGNORE\nfrom . import data, model\nimport torch"),
        ("trimap.task", "from seglab.trimap.model import TrimapModel\nfrom seglab import losses"),
        ("metrics", "from .boundary import boundary_band"),
        ("synthetic", "from .painting import Canvas"),
        ("interact.session", "from .moments import Sheet"),
        ("runs", "from .core import atomic_path"),
    ],
)
def test_an_arrow_that_points_down_passes(module: str, source: str) -> None:
    names = imports(source, module)
    assert names and not [name for name in names if forbidden(module, name)]
