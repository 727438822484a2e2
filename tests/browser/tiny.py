"The smallest anywidget that uses all a bridge must carry: traits, messages and bytes, both ways."

import threading
import time

import anywidget
import traitlets
from ipywidgets.widgets.trait_types import CByteMemoryView

MODULE = """
function render({ model, el }) {
  el.innerHTML = "<button>add</button> <output></output>";
  const [button, output] = el.children;
  const draw = () => { output.textContent = [model.get("count"), ...view(model.get("bytes"))]; };
  const view = (bytes) => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const add = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
  const hear = (content, buffers) => {
    output.dataset.heard = [content.word, ...view(buffers[0] ?? new ArrayBuffer())];
  };
  const key = (event) => model.send({ key: event.key }, null, [new Uint8Array([1, 2, 3])]);
  if (model.get("broken")) throw new Error("the lens is broken");
  model.on("change:count change:bytes", draw);
  model.on("msg:custom", hear);
  button.addEventListener("click", add);
  document.addEventListener("keydown", key);
  draw();
  return () => {
    model.off("change:count change:bytes", draw);
    if (!model.get("careless")) model.off("msg:custom", hear);
    if (!model.get("careless")) document.removeEventListener("keydown", key);
  };
}
export default { render };
"""


class Tiny(anywidget.AnyWidget):
    "Counts clicks, shows bytes, and answers every key from another thread."

    _esm = MODULE
    _css = "output { font-family: monospace; }"
    count = traitlets.Int(0).tag(sync=True)
    bytes = CByteMemoryView(b"").tag(sync=True)  # what comes from the page is a memoryview
    broken = traitlets.Bool(False).tag(sync=True)  # `render` fails
    careless = traitlets.Bool(False).tag(sync=True)  # `render`'s clean-up forgets its listeners

    def __init__(self, seconds: float = 0.05, **traits: object) -> None:
        super().__init__(**traits)
        self.seconds, self.heard = seconds, []
        self.on_msg(self.answer)

    def answer(self, _widget: "Tiny", content: dict, buffers: list) -> None:
        "Note what came, and send it back reversed, after a while."
        self.heard.append((content["key"], *(buffer.tobytes() for buffer in buffers)))
        if content["key"] == "!":
            raise ValueError("no such key")
        backwards = buffers[0].tobytes()[::-1]

        def later() -> None:
            time.sleep(self.seconds)
            self.send(dict(word=content["key"]), [backwards])

        threading.Thread(target=later).start()
