"Guards of seglab.hybrid.prepare: a store that is cut off goes on, and nothing is overwritten."

import multiprocessing
import threading
import time

import pytest
import torch
from tqdm import tqdm

from seglab.core import DatasetError
from seglab.hybrid import prepare
from seglab.hybrid.pairs import FolderPairs, Pair
from seglab.hybrid.prepare import write_store
from seglab.hybrid.store import StoredPairs, read_manifest
from seglab.io import ImageError, write_image, write_mask


class Source:
    "Random pairs by number; `seconds` to make one, and one that cannot be made."

    kind, classes = "instances", 1

    def __init__(self, count=30, side=8, seconds=0.0, broken=-1, seed=0):
        self.count, self.side, self.seconds, self.broken = count, side, seconds, broken
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        time.sleep(self.seconds)
        if index == self.broken:
            raise ImageError(f"p{index}.jpg: broken")
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        numbers = torch.randint(0, 256, (4, self.side, self.side), generator=generator)
        numbers = numbers.to(torch.uint8)
        return Pair(f"p{index}", numbers[:3], numbers[3] % 3, (index % 3, 0, 5, self.side))


def contents(manifest) -> list[bytes]:
    return [file.read_bytes() for file in StoredPairs(manifest).files[1:]]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_workers_change_nothing(tmp_path, dtype):
    wanted = contents(write_store(Source(), tmp_path / "none", dtype))
    assert contents(write_store(Source(), tmp_path / "two", dtype, workers=2)) == wanted
    assert (
        read_manifest(tmp_path / ("two" + "_fp16" * (dtype == "float16") + ".json")).boxes[4][0]
        == 1
    )


def write_alone(source: Source, path) -> None:
    "Write a store in a forked process that shares no lock with this one, as it will be killed."
    tqdm.set_lock(threading.RLock())  # its own one is shared by processes, and held for ever
    write_store(source, path, every=3)


def test_a_killed_process_is_continued(tmp_path):
    wanted = contents(write_store(Source(), tmp_path / "at_one_go"))
    path, sittings = tmp_path / "killed", 0
    for done in (0, 4, 9, 10, 20):
        process = multiprocessing.get_context("fork").Process(
            target=write_alone, args=(Source(seconds=0.01), path)
        )
        process.start()
        manifest = path.with_name("killed.json")
        while process.is_alive() and not (
            manifest.exists() and read_manifest(manifest).n_done >= done
        ):
            time.sleep(0.001)
        process.kill()  # a signal that cannot be caught
        process.join()
        left = read_manifest(manifest)
        sittings += left.n_done < 30
        rows = [file.read_bytes() for file in path.parent.glob("killed.*.u8")]
        assert len(rows) == 2 or left.n_done == 0
        if left.n_done < 30:
            with pytest.raises(DatasetError, match=rf"holds {left.n_done} of 30 pictures"):
                StoredPairs(path)
    assert sittings == 5, "it was killed before it was done"
    assert contents(write_store(Source(), path, workers=2)) == wanted


def test_a_broken_picture_loses_nothing(tmp_path):
    path = tmp_path / "broken"
    for workers in (0, 2):
        with pytest.raises(ImageError, match=r"p17\.jpg: broken"):
            write_store(Source(broken=17), path, workers=workers)
        assert not multiprocessing.active_children(), "workers ended with the call"
        assert read_manifest(tmp_path / "broken.json").n_done == 17
    assert contents(write_store(Source(), path)) == contents(
        write_store(Source(), tmp_path / "whole")
    )


def test_an_interrupted_store_goes_on_where_it_was(tmp_path):
    asked = []

    class Counted(Source):
        def __getitem__(self, index):
            asked.append(index)
            if len(asked) == 8:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    source = Counted()
    with pytest.raises(KeyboardInterrupt):
        write_store(source, tmp_path / "stopped")
    asked.clear()
    asked += [-1] * 8  # no second interruption
    write_store(source, tmp_path / "stopped")
    assert asked[8:] == [0, 6, *range(7, 30)], "two rows are proved, the rest is made"


def test_a_finished_store_is_not_overwritten(tmp_path):
    manifest = write_store(Source(), tmp_path / "done")
    before = contents(manifest)
    with pytest.raises(
        DatasetError, match=r"is finished, 30 .* delete done\.json, done\.images\.u8, d"
    ):
        write_store(Source(seed=1), tmp_path / "done")
    assert contents(manifest) == before
    write_store(Source(seed=1), tmp_path / "done", dtype="float16")  # lies beside it


@pytest.mark.parametrize("name", ["x.images.u8", "x.masks.u8", "x_fp16_images.mmap"])
def test_foreign_files_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody else's")
    dtype = "float16" if "fp16" in name else "uint8"
    with pytest.raises(DatasetError, match="is there without a manifest, so it is not ours"):
        write_store(Source(), tmp_path / "x", dtype)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"somebody else's"


def test_a_foreign_manifest_is_not_overwritten(tmp_path):
    (tmp_path / "x.json").write_text('{"name": "package"}')
    with pytest.raises(DatasetError, match="not the manifest of a store"):
        write_store(Source(), tmp_path / "x")


@pytest.mark.parametrize(
    "source,options,text",
    [
        (
            Source(count=31),
            {},
            "was begun with n 30, not 31; choose another name, or delete x.json",
        ),
        (Source(side=9), {}, "was begun with size 8, not 9"),
        (Source(), dict(origin="here"), "was begun with source '', not 'here'"),
        (Source(seed=1), {}, "picture 0, p0, is another one now; to begin anew, delete x.json"),
    ],
)
def test_a_store_is_not_continued_with_something_else(tmp_path, source, options, text):
    with pytest.raises(ImageError):
        write_store(Source(broken=5), tmp_path / "x")
    with pytest.raises(DatasetError, match=text):
        write_store(source, tmp_path / "x", **options)
    assert read_manifest(tmp_path / "x.json").n_done == 5


def test_rows_that_were_lost_are_missed(tmp_path):
    with pytest.raises(ImageError):
        write_store(Source(broken=5), tmp_path / "x")
    file = tmp_path / "x.images.u8"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"expected 960 bytes \(5 rows of 192\), found 959"):
        write_store(Source(), tmp_path / "x")


def test_a_disk_without_room_is_refused_at_once(tmp_path, monkeypatch):
    free = type("Usage", (), dict(free=5000))
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda folder: free)
    write_store(Source(count=19), tmp_path / "small")  # 4864 bytes
    with pytest.raises(DatasetError, match="0.0 GB are still to be written"):
        write_store(Source(count=20), tmp_path / "large")
    assert not (tmp_path / "large.json").exists()


def test_an_empty_source_and_a_limit(tmp_path):
    with pytest.raises(DatasetError, match="the source has no picture"):
        write_store(Source(count=0), tmp_path / "x")
    assert len(StoredPairs(write_store(Source(), tmp_path / "few", limit=4))) == 4
    assert len(StoredPairs(write_store(Source(), tmp_path / "all", limit=400))) == 30


def test_a_stray_file_never_reaches_a_store(tmp_path):
    for stem in "abc":
        write_image(tmp_path / f"images/{stem}.jpg", torch.rand(3, 20, 20))
        write_mask(tmp_path / f"masks/{stem}.png", torch.rand(1, 20, 20) > 0.5)
    write_image(tmp_path / "images/b2.jpg", torch.rand(3, 20, 20))
    with pytest.raises(DatasetError, match=r"1 truths are missing \['b2'\]"):
        write_store(FolderPairs(tmp_path / "images", tmp_path / "masks", 16), tmp_path / "x")
    (tmp_path / "images/b2.jpg").unlink()
    (tmp_path / "images/notes.txt").write_text("no picture")
    store = write_store(FolderPairs(tmp_path / "images", tmp_path / "masks", 16), tmp_path / "x")
    assert read_manifest(store).stems == ("a", "b", "c")


def test_chance_elsewhere_is_left_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    write_store(Source(), tmp_path / "x", workers=1)
    assert torch.equal(before, torch.get_rng_state())
