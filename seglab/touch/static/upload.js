// A button that sends a file to the kernel in pieces: a server hangs up at a message it finds too large.

const PIECE = 2 ** 20; // bytes

async function send(file, model) {
  let start = 0;
  do {
    const piece = await file.slice(start, start + PIECE).arrayBuffer();
    model.send({ name: file.name, size: file.size, start }, undefined, [piece]);
    start += PIECE;
  } while (start < file.size); // an empty file is one piece, too
}

export default {
  render: ({ model, el }) => {
    const input = create("input", "", el);
    Object.assign(input, { type: "file", accept: "image/*", hidden: true });
    const button = create("button", "jupyter-widgets jupyter-button widget-button", el);
    const label = () => {
      const arrived = model.get("arrived");
      button.textContent = arrived ? `${arrived} % is here` : "upload photo";
    };
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      for (const file of input.files) send(file, model);
      input.value = ""; // the same file may be chosen again
    });
    model.on("change:arrived", label);
    label();
    return () => model.off("change:arrived", label);
  },
};
