"""Every check, cheapest news first: style, export, tests, notebooks. The last line counts them.

`make test` calls it with the environment's Python. Nothing it does changes a tracked file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import psutil

HERE = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
OFFLINE = dict(NO_ALBUMENTATIONS_UPDATE="1", HF_HUB_OFFLINE="1")  # no test may ask the internet
QUIET = dict(MPLBACKEND="agg", OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
COUNTED = ("passed", "failed", "skipped")


def call(
    command: list[str],
    folder: Path = HERE,
    seconds: float = 600,  # then it is killed with all it has started
) -> tuple[int, str]:
    "Run a command of the environment, show what it prints, and give its exit status and output."
    command = [str(BIN / command[0]), *command[1:]]
    lines = []
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    with subprocess.Popen(command, cwd=folder, **streams) as process:
        clock = threading.Timer(seconds, kill, [process.pid])
        clock.daemon = True  # an interrupted run must not wait for it
        clock.start()
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        clock.cancel()
    return process.returncode, "".join(lines)


def kill(pid: int) -> None:
    "End a process that takes too long, and all it has started."
    first = psutil.Process(pid)
    print(f"==> killed, it took too long: {' '.join(first.cmdline())}", flush=True)
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended since it was listed
            process.kill()


def style() -> Counter:
    "Does ruff accept notebooks, tests and scripts, their form included?"
    places = ["nbs", "tests", ".ci", "setup.py"]
    checks = (["ruff", "check", *places], ["ruff", "format", "--check", *places])
    return sum((verdict(call(check)[0] == 0) for check in checks), Counter())


def export() -> Counter:
    "Do the notebooks, exported and cleaned afresh, give exactly the files that are here?"
    found = Counter()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / HERE.name
        for part in ("nbs", "seglab"):
            shutil.copytree(HERE / part, copy / part, ignore=shutil.ignore_patterns(".*", "__py*"))
        shutil.copy(HERE / "settings.ini", copy)
        for module in (copy / "seglab").rglob("*.py"):
            module.unlink()  # so that a module no notebook exports any more shows up
        for command, part in (("nbdev_export", "seglab"), ("nbdev_clean", "nbs")):
            status, _ = call([command], copy)
            changed = differing(HERE / part, copy / part)
            for file in changed:
                print(f"{part}/{file} is not what {command} makes of the notebooks")
            found += verdict(status == 0 and not changed)
    return found


def differing(ours: Path, theirs: Path) -> list[str]:
    "Modules and notebooks that only one of two folders holds, or that differ between them."

    def files(folder: Path) -> dict[str, bytes]:
        paths = [p for p in folder.rglob("*") if p.suffix in (".py", ".ipynb")]
        relative = {p.relative_to(folder): p for p in paths}
        return {
            str(r): p.read_bytes()
            for r, p in relative.items()
            if not any(part.startswith(".") for part in r.parts)
        }

    here, there = files(ours), files(theirs)
    return sorted(n for n in here.keys() | there.keys() if here.get(n) != there.get(n))


def tests() -> Counter:
    "pytest, counted from its own report."
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        limits = ["--timeout=600", "--session-timeout=1800"]  # of one test and of all, in seconds
        command = ["python", "-m", "pytest", "-q", *limits, f"--junitxml={report}", "tests"]
        status, _ = call(command, seconds=2000)
        if not report.exists():
            return verdict(False)
        cases = Counter()
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {child.tag for child in case}
            broken = outcomes & {"failure", "error"}
            cases["failed" if broken else "skipped" if "skipped" in outcomes else "passed"] += 1
    if status and not cases["failed"]:  # it could not even start, or time was up
        cases["failed"] = 1
    return cases


def notebooks() -> Counter:
    "Every notebook, experiments included, run from top to bottom in two processes."
    command = ["nbdev_test", "--n_workers", "2", "--do_print", "--timing"]
    status, text = call(command, seconds=2900)
    completed = len(re.findall(r"^- Completed ", text, re.M))
    listed = re.split(r"nbdev Tests Failed On The Following Notebooks:\n=+\n", text)
    failed = len(listed[1].split()) if len(listed) > 1 else int(status != 0)
    return Counter(passed=max(completed - failed, 0), failed=failed)


def verdict(good: bool) -> Counter:
    "One check, counted."
    return Counter(["passed" if good else "failed"])


def main() -> int:
    "Run all, whatever fails, and say at the end how many did."
    total = Counter()
    with tempfile.TemporaryDirectory() as outputs:  # smoke runs of experiments leave nothing here
        os.environ.update(OFFLINE | QUIET, SEGLAB_OUTPUTS=outputs)
        for check in (style, export, tests, notebooks):
            print(f"==> {check.__name__}: {check.__doc__}", flush=True)
            start = time.monotonic()
            total += (found := check())
            seconds = time.monotonic() - start
            print(f"==> {check.__name__}: {summary(found)} in {seconds:.0f} s\n", flush=True)
    print(summary(total))
    return int(total["failed"] > 0)


def summary(found: Counter) -> str:
    "The counts in words, as in '12 passed, 0 failed, 1 skipped'."
    return ", ".join(f"{found[name]} {name}" for name in COUNTED)


if __name__ == "__main__":
    sys.exit(main())
