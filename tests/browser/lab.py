"""JupyterLab in a real browser: a server on loopback, a notebook, its kernel.

The settings that matter were found by trial with JupyterLab 4.6: the token belongs to
`IdentityProvider`, the page's application is only reachable with `expose_app_in_browser`, and a
notebook without kernelspec metadata never starts.
"""

import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Error, Page

KERNELSPEC = dict(name="python3", display_name="Python 3 (ipykernel)", language="python")
SILENT = dict(fetchNews="false", checkForUpdates=False, doNotDisturbMode=True)

PANEL = "window.jupyterapp.shell.currentWidget"
KERNEL = f"{PANEL}.context.sessionContext.session.kernel"
IDLE = f"{PANEL}?.context?.sessionContext?.session?.kernel?.status === 'idle'"
CODE_CELLS = f"{PANEL}.content.model.sharedModel.cells.filter(cell => cell.outputs)"
ERRORS = f"""() => {CODE_CELLS}.flatMap(cell => cell.outputs)
    .filter(output => output.output_type === 'error')
    .map(output => `${{output.ename}}: ${{output.evalue}}`)"""
EVALUATE = f"""async expression => {{
    const asked = {{ value: `__import__('json').dumps(${{expression}})` }};
    const request = {{ code: '', silent: true, user_expressions: asked }};
    return (await {KERNEL}.requestExecute(request).done).content.user_expressions.value;
}}"""

# The page keeps the promise, and is asked whether it is settled: Playwright itself would wait for
# ever, and Chromium loses a promise now and then ("Resulting promise was garbage collected").
START = """([number, argument]) => {{
    if (window.asked?.number === number) return;  // the first call was heard, only its answer lost
    const asked = window.asked = {{ number }};
    const settle = answer => {{ asked.answer = answer; }};
    Promise.resolve(argument).then({script})
        .then(value => settle({{ value }}), error => settle({{ error: `${{error}}` }}));
}}"""
ANSWER = """number => window.asked?.number === number
    ? window.asked.answer : { error: "the page was loaded anew, or asked something else" }"""
LOST = "garbage collected"

CLOSE = """async () => {
    for (const panel of [...window.jupyterapp.shell.widgets("main")]) {
        if (!panel.context) continue;
        const late = new Promise(resolve => setTimeout(resolve, 10_000));  // a kernel may be stuck
        await Promise.race([panel.context.sessionContext.shutdown(), late]);
        panel.dispose();
    }
}"""


def free_port() -> int:
    "A port of loopback that nothing listens to."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve(
    folder: Path,  # of notebooks
    private: Path,  # empty: settings, workspaces and the log go here, not into the user's home
) -> Iterator[dict]:  # url and token of a server that answers
    "JupyterLab's server, stopped at the end."
    settings = private / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(SILENT))
    server = dict(url=f"http://127.0.0.1:{(port := free_port())}", token=secrets.token_hex(8))
    command = [
        *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={server['token']}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
    ]
    log = private / "server.log"
    with log.open("w") as lines:
        streams = dict(stdout=lines, stderr=subprocess.STDOUT, start_new_session=True)
        process = subprocess.Popen(command, env=environment(private), **streams)
        try:
            wait_for(server, process, log)
            yield server
        finally:
            stop(process)


def environment(private: Path) -> dict[str, str]:
    "This process's environment with every folder of Jupyter's and IPython's moved to `private`."
    moved = dict(
        JUPYTER_CONFIG_DIR="config",
        JUPYTER_DATA_DIR="data",
        JUPYTER_RUNTIME_DIR="runtime",
        JUPYTERLAB_SETTINGS_DIR="settings",
        JUPYTERLAB_WORKSPACES_DIR="workspaces",
        IPYTHONDIR="ipython",
    )
    folders = {name: str(private / folder) for name, folder in moved.items()}
    fixed = dict(JUPYTER_PREFER_ENV_PATH="1", PYDEVD_DISABLE_FILE_VALIDATION="1")
    return {**os.environ, **folders, **fixed}


def wait_for(
    server: dict,  # url and token
    process: subprocess.Popen,
    log: Path,  # what the process writes
    seconds: float = 60,
) -> None:
    "Return when the server answers; say why if it never does."
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            probe = f"{server['url']}/api/status?token={server['token']}"
            urllib.request.urlopen(probe, timeout=2).read()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start in {seconds} s:\n{log.read_text()[-2000:]}")


def stop(process: subprocess.Popen) -> None:
    "End the server, and wait until it is gone."
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Lab:
    "JupyterLab in a page, one notebook at a time."

    def __init__(
        self,
        page: Page,
        server: dict,  # what `serve` gives
        folder: Path,  # of notebooks, the server's
        errors: list[str],  # where somebody notes the page's errors
    ) -> None:
        self.page, self.server, self.folder, self.errors = page, server, folder, errors
        self.numbers = itertools.count()
        self._begin()

    def _begin(self) -> None:
        address = f"{self.server['url']}/lab?token={self.server['token']}&reset"
        self.page.goto(address, wait_until="domcontentloaded")
        self.page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
        self.ask("() => window.jupyterapp.restored.then(() => null)")

    def ask(
        self,
        script: str,  # a function of one argument; a promise is waited for
        argument: object = None,
        seconds: float = 60,  # then it is an error
    ) -> object:
        "What the page answers; it is asked once."
        number, end = next(self.numbers), time.monotonic() + seconds
        self._evaluate(START.format(script=script), [number, argument])
        while (answer := self._evaluate(ANSWER, number)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"no answer in {seconds} s: {script}")
            self.page.wait_for_timeout(10)
        if "error" in answer:
            raise RuntimeError(f"{answer['error']}: {script}")
        return answer["value"]

    def _evaluate(
        self,
        script: str,  # may run more often than once
        argument: object,
    ) -> object:
        "What a script gives at once."
        for chances in reversed(range(5)):
            try:
                return self.page.evaluate(script, argument)
            except Error as error:
                if not chances or LOST not in error.message:
                    raise

    def until(
        self,
        condition: str,  # JavaScript
        seconds: float = 30,  # then it is a TimeoutError
    ) -> None:
        "Return when something is true in the page."
        end = time.monotonic() + seconds
        while not self.ask(f"() => Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s in the page: {condition}")
            self.page.wait_for_timeout(50)

    def open(
        self,
        name: str,  # of the notebook, without .ipynb
        *cells: str,  # its code; without any, the notebook is there already
    ) -> None:
        "Write a notebook, open it, and wait for its kernel."
        if cells:
            book = nbformat.v4.new_notebook(metadata=dict(kernelspec=KERNELSPEC))
            book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
            nbformat.write(book, self.folder / f"{name}.ipynb")
        self.command("docmanager:open", path=f"{name}.ipynb")
        self.until(IDLE, seconds=60)

    def command(
        self,
        name: str,  # such as docmanager:save
        **arguments: object,
    ) -> None:
        "Run a command of JupyterLab's, to its end."
        execute = "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => {})"
        self.ask(execute, [name, arguments])

    def run_all(self) -> None:
        "Run every cell; a cell's error is raised here."
        self.command("notebook:run-all-cells")
        self._judge()

    def run(
        self,
        number: int,  # of the cell, from 0
        wait: bool = True,  # until it is done; else until the kernel has begun
    ) -> None:
        "Run one cell; its error is raised here, if we wait for it."
        self.ask(f"number => {{ {PANEL}.content.activeCellIndex = number }}", number)
        if wait:
            self.command("notebook:run-cell")
            self._judge()
        else:
            self.ask("() => void window.jupyterapp.commands.execute('notebook:run-cell')")
            self.until(f"{KERNEL}.status === 'busy'")

    def _judge(self) -> None:
        if errors := self.ask(ERRORS):
            raise RuntimeError("; ".join(errors))

    def status(self) -> str:
        "What the kernel does: idle, busy, dead …"
        return self.ask(f"() => {KERNEL}.status")

    def evaluate(
        self,
        expression: str,  # in the kernel's namespace; JSON can carry its value
    ) -> object:
        "A value of the kernel's."
        answer = self.ask(EVALUATE, expression)
        if answer["status"] != "ok":
            raise RuntimeError(f"{expression}: {answer['ename']}: {answer['evalue']}")
        return json.loads(literal_eval(answer["data"]["text/plain"]))

    def wait(
        self,
        expression: str,  # in the kernel's namespace, as `evaluate`
        seconds: float = 30,  # then it is a TimeoutError
    ) -> None:
        "Return when something is true in the kernel."
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s in the kernel: {expression}")
            self.page.wait_for_timeout(50)

    def reload(self) -> None:
        """Save, and load the page again: the kernel lives on, and with it the widgets.

        The address of a notebook (/lab/tree/…) isn't asked for: JupyterLab opens what it names
        whenever its file browser is ready, be it after the notebook was closed again.
        """
        self.command("docmanager:save")
        path = self.ask(f"() => {PANEL}.context.path")
        self._begin()
        self.open(path.removesuffix(".ipynb"))

    def close(self) -> None:
        "Shut the kernels of all notebooks down, and close their tabs."
        self.ask(CLOSE)
