// A picture with layers over it. Python says what there is; zooming, fading, hiding and comparing
// happen here, without the kernel. Points are [y, x] in the picture's pixels, (0, 0) its corner.

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Values 0..255 as a bitmap; `colours` holds one RGBA word a value. */
function colourIn({ values, height, width }, colours) {
  const bitmap = new OffscreenCanvas(width, height);
  const context = bitmap.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < values.length; i++) pixels[i] = colours[values[i]];
  context.putImageData(image, 0, 0);
  return bitmap;
}

const GREYS = Uint32Array.from({ length: 256 }, (_, v) => ((255 << 24) | (v * 0x10101)) >>> 0);

class Stage {
  constructor({ model, el }) {
    this.model = model;
    this.layers = new Map(); // name -> {values, height, width, place, colours, bitmap, …}
    this.newest = new Map(); // name -> version of the latest message about it
    this.hidden = new Set(); // "layer" or "layer:value"
    this.lit = null; // {layer, value}: drawn alone while a chip is pointed at
    this.fingers = new Map(); // pointers that are down
    this.gesture = null; // what the pointer is doing
    this.undo = new AbortController(); // takes all listeners back
    this.build(el);
    this.listen();
    this.attempt(this.loadPicture()).then(() => model.send({ type: "ready" }));
  }

  build(parent) {
    this.root = create("div", "seglab-canvas", parent);
    this.root.tabIndex = 0;
    this.root.dataset.testid = "canvas";
    this.screen = create("canvas", "", this.root);
    this.context = this.screen.getContext("2d");
    this.scratch = document.createElement("canvas");
    this.legend = create("div", "seglab-legend", this.root);
    this.bars = create("div", "seglab-bars", this.root);
    this.status = create("div", "seglab-status", this.root);
    this.warning = create("div", "seglab-error", this.root);
    this.root.state = () => ({
      view: this.view, layers: this.drawn, size: this.model.get("size"), hidden: [...this.hidden],
    });
  }

  on(target, event, handler, options = {}) {
    target.addEventListener(event, handler, { signal: this.undo.signal, ...options });
  }

  /** Call `handler` when one of these traits changes, until the view is closed. */
  watch(names, handler) {
    const events = names.map((name) => `change:${name}`);
    events.forEach((event) => this.model.on(event, handler));
    this.undo.signal.addEventListener("abort", () =>
      events.forEach((event) => this.model.off(event, handler)));
  }

  listen() {
    const receive = (message, buffers) => this.receive(message, buffers);
    this.model.on("msg:custom", receive);
    this.undo.signal.addEventListener("abort", () => this.model.off("msg:custom", receive));
    this.watch(["picture"], () => this.loadPicture());
    this.watch(["width"], () => this.fit());
    this.watch(["alphas", "alpha", "threshold", "split", "after", "order"], () => this.draw());
    this.watch(["alphas", "alpha"], () => this.setBars());
    this.watch(["legend"], () => {
      this.lit = null; // a chip that is removed never hears that the pointer left
      this.buildLegend();
      this.draw();
    });
    this.watch(["order", "titles", "sliders"], () => this.buildBars());
    this.watch(["error_text"], () => this.showError());
    this.on(this.screen, "contextmenu", (event) => {
      event.preventDefault(); // else JupyterLab opens its own
      event.stopPropagation();
    });
    this.on(this.screen, "pointerdown", (event) => this.press(event));
    this.on(this.screen, "pointermove", (event) => this.move(event));
    this.on(this.screen, "pointerup", (event) => this.release(event));
    this.on(this.screen, "pointercancel", (event) => this.cancel(event));
    this.on(this.screen, "pointerleave", () => this.say());
    this.on(this.screen, "wheel", (event) => this.roll(event), { passive: false });
    this.on(this.screen, "dblclick", () => this.doubleClick());
    this.on(this.root, "keydown", (event) => this.key(event));
  }

  close() {
    this.undo.abort();
    this.root.remove();
  }

  // ---- what is shown

  async loadPicture() {
    const mine = (this.loading = (this.loading ?? 0) + 1);
    const bitmap = await createImageBitmap(new Blob([bytesOf(this.model.get("picture"))]));
    if (mine !== this.loading) return; // another picture came meanwhile
    this.bitmap = bitmap;
    this.fit();
    this.buildLegend();
    this.buildBars();
    this.showError();
    this.root.dataset.ready = "1";
  }

  /** The whole picture, as wide as the canvas. */
  fit() {
    const [height, width] = this.model.get("size");
    const ratio = window.devicePixelRatio || 1;
    this.screen.width = Math.round(this.model.get("width") * ratio);
    this.screen.height = Math.max(1, Math.round((this.screen.width * height) / width));
    this.screen.style.width = `${this.model.get("width")}px`;
    this.view = { scale: this.screen.width / width, x: 0, y: 0 };
    this.draw();
  }

  async receive(message, buffers) {
    if (message.type === "drop") {
      this.newest.set(message.name, message.version);
      this.layers.delete(message.name);
      this.draw(message.version);
    }
    if (message.type === "layer") await this.attempt(this.take(message, buffers));
  }

  /** What cannot be decoded is said under the picture. */
  attempt(work) {
    return work.catch((error) => void (this.warning.textContent = String(error)));
  }

  /** Decoding takes time; what is older than the newest message of its layer is not drawn. */
  async take(message, buffers) {
    this.newest.set(message.name, message.version);
    const [first, second] = buffers.map(bytesOf);
    const layer = { ...message };
    if (message.kind === "picture") {
      layer.bitmap = await createImageBitmap(new Blob([first]));
    } else {
      layer.values = await inflate(first);
      layer.colours = new Uint32Array(second.slice().buffer);
    }
    if (this.undo.signal.aborted || this.newest.get(message.name) !== message.version) return;
    if (message.kind === "soft") layer.bitmap = colourIn(layer, GREYS);
    this.layers.set(message.name, layer);
    this.draw(message.version);
  }

  /** The layer's bitmap, with hidden values left out and lit ones alone. */
  bitmapOf(layer) {
    if (layer.kind !== "values") return layer.bitmap;
    const only = this.lit?.value ?? null;
    const hidden = [...this.hidden].filter((key) => key.startsWith(`${layer.name}:`));
    const key = `${only} ${hidden.join()}`;
    if (layer.key !== key) {
      const colours = layer.colours.map((colour, value) =>
        (only === null ? hidden.includes(`${layer.name}:${value}`) : value !== only) ? 0 : colour);
      Object.assign(layer, { key, bitmap: colourIn(layer, colours) });
    }
    return layer.bitmap;
  }

  visible(name) {
    return this.lit ? this.lit.layer === name : !this.hidden.has(name);
  }

  alphaOf(name) {
    return this.model.get("alphas")[name] ?? this.model.get("alpha");
  }

  draw(version) {
    if (!this.bitmap) return;
    const { context, view } = this;
    const [height, width] = this.model.get("size");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.screen.width, this.screen.height);
    context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
    context.imageSmoothingEnabled = view.scale < 3;
    context.drawImage(this.bitmap, 0, 0, width, height);
    this.drawn = this.model.get("order").filter((name) => this.drawLayer(name, height, width));
    this.drawSplit(height, width);
    this.decorate(context);
    this.root.dataset.version = Math.max(version ?? 0, this.root.dataset.version ?? 0);
    this.root.dataset.layers = this.drawn.join();
  }

  drawLayer(name, height, width) {
    const layer = this.layers.get(name);
    const alpha = this.lit ? 1 : this.alphaOf(name);
    if (!layer || alpha <= 0 || !this.visible(name)) return false;
    const { context } = this;
    const split = this.model.get("split");
    context.save();
    if (split >= 0 && this.model.get("after").includes(name)) {
      context.beginPath();
      context.rect(split * width, 0, (1 - split) * width, height);
      context.clip();
    }
    context.globalAlpha = alpha;
    const [top, left, high, wide] = layer.place ?? [0, 0, height, width];
    if (layer.kind === "soft") this.drawSoft(layer, [left, top, wide, high]);
    else {
      context.imageSmoothingEnabled = layer.smooth;
      context.drawImage(this.bitmapOf(layer), left, top, wide, high);
    }
    context.restore();
    return true;
  }

  /** Enlarge probabilities to the screen's pixels first and cut them afterwards: smooth edges. */
  drawSoft(layer, rectangle) {
    const { scratch, screen, context } = this;
    if (scratch.width !== screen.width) scratch.width = screen.width;
    if (scratch.height !== screen.height) scratch.height = screen.height;
    const pad = scratch.getContext("2d", { willReadFrequently: true });
    pad.setTransform(1, 0, 0, 1, 0, 0);
    pad.clearRect(0, 0, scratch.width, scratch.height);
    pad.setTransform(context.getTransform());
    if (layer.clip) {
      const [top, left, high, wide] = layer.clip; // interpolation must not leave the box
      pad.save();
      pad.beginPath();
      pad.rect(left, top, wide, high);
      pad.clip();
    }
    pad.drawImage(layer.bitmap, ...rectangle);
    if (layer.clip) pad.restore();
    const image = pad.getImageData(0, 0, scratch.width, scratch.height);
    const pixels = new Uint32Array(image.data.buffer);
    const [least, colour] = [255 * this.model.get("threshold"), layer.colours[255]];
    let count = 0;
    for (let i = 0; i < pixels.length; i++) {
      const inside = pixels[i] >>> 24 > 127 && (pixels[i] & 255) > least;
      pixels[i] = inside ? colour : 0;
      count += inside;
    }
    pad.putImageData(image, 0, 0);
    this.root.dataset.maskPixels = count;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(scratch, 0, 0);
  }

  drawSplit(height, width) {
    const split = this.model.get("split");
    if (split < 0) return;
    const { context, view } = this;
    context.fillStyle = "#fff";
    context.strokeStyle = "#333";
    context.lineWidth = 1 / view.scale;
    const half = 1.5 / view.scale;
    context.fillRect(split * width - half, 0, 2 * half, height);
    context.beginPath();
    context.arc(split * width, height / 2, 8 / view.scale, 0, 7);
    context.fill();
    context.stroke();
  }

  /** For those who draw more. */
  decorate() {}

  // ---- legend, sliders, words

  buildLegend() {
    this.legend.replaceChildren();
    for (const entry of this.model.get("legend")) {
      const value = entry.value ?? null;
      const key = value === null ? entry.layer : `${entry.layer}:${value}`;
      const chip = create("button", "chip", this.legend);
      chip.type = "button";
      chip.dataset.key = key;
      create("span", "swatch", chip).style.background = entry.colour ?? "transparent";
      chip.append(entry.text);
      chip.classList.toggle("off", this.hidden.has(key));
      const light = (lit) => {
        this.lit = lit;
        this.draw();
      };
      this.on(chip, "pointerenter", () => light({ layer: entry.layer, value }));
      this.on(chip, "pointerleave", () => light(null));
      this.on(chip, "click", () => {
        if (!this.hidden.delete(key)) this.hidden.add(key);
        chip.classList.toggle("off", this.hidden.has(key));
        light(null);
      });
    }
  }

  buildBars() {
    this.bars.replaceChildren();
    if (!this.model.get("sliders")) return;
    for (const name of this.model.get("order")) {
      const label = create("label", "bar", this.bars);
      create("span", "", label).textContent = this.model.get("titles")[name] || name;
      const bar = create("input", "", label);
      Object.assign(bar, { type: "range", min: 0, max: 1, step: 0.01, value: this.alphaOf(name) });
      bar.dataset.layer = name;
      this.on(bar, "input", () => {
        this.model.set("alphas", { ...this.model.get("alphas"), [name]: +bar.value });
        this.draw();
      });
      this.on(bar, "change", () => this.model.save_changes());
    }
  }

  /** Sliders follow Python; the one in somebody's hand does not. */
  setBars() {
    for (const bar of this.bars.querySelectorAll("input"))
      if (bar !== document.activeElement) bar.value = this.alphaOf(bar.dataset.layer);
  }

  /** What lies at the pointer. */
  say(point) {
    if (!point) return void (this.status.textContent = this.hint());
    const [height, width] = this.model.get("size");
    const [y, x] = point.map(Math.floor);
    const inside = y >= 0 && x >= 0 && y < height && x < width;
    const words = this.model.get("order").map((name) => this.wordAt(name, y, x)).filter(Boolean);
    this.status.textContent = inside ? [`row ${y}, column ${x}`, ...words].join(" · ") : this.hint();
  }

  wordAt(name, y, x) {
    const layer = this.layers.get(name);
    const names = this.model.get("names")[name];
    if (!names || !layer?.values) return "";
    const [height, width] = this.model.get("size");
    const [top, left, high, wide] = layer.place ?? [0, 0, height, width];
    const row = Math.floor(((y + 0.5 - top) / high) * layer.height);
    const column = Math.floor(((x + 0.5 - left) / wide) * layer.width);
    if (row < 0 || column < 0 || row >= layer.height || column >= layer.width) return "";
    return names[layer.values[row * layer.width + column]] ?? "";
  }

  hint() {
    return "";
  }

  showError() {
    this.warning.textContent = this.model.get("error_text");
    this.root.dataset.error = this.model.get("error_text");
  }

  // ---- the pointer

  /** Where an event is: in the canvas's own pixels and in the picture's. */
  locate(event) {
    const { screen, view } = this;
    const box = screen.getBoundingClientRect(); // with its border, which must not shift clicks
    const ratio = screen.width / screen.clientWidth;
    const at = {
      screenX: (event.clientX - box.left - screen.clientLeft) * ratio,
      screenY: (event.clientY - box.top - screen.clientTop) * ratio,
    };
    at.point = [(at.screenY - view.y) / view.scale, (at.screenX - view.x) / view.scale];
    return at;
  }

  press(event) {
    this.root.focus({ preventScroll: true });
    this.screen.setPointerCapture?.(event.pointerId);
    const at = this.locate(event);
    if (event.button > 2 || this.fingers.size > 1) return; // "back", "forward", a palm
    this.fingers.set(event.pointerId, at);
    if (this.fingers.size === 2) {
      this.gesture?.drop?.();
      this.gesture = this.pinch();
    } else if (event.button === 1 || event.shiftKey) {
      event.preventDefault();
      this.gesture = this.pan(at);
    } else this.gesture = this.dragSplit(at) ?? this.begin(event, at);
  }

  move(event) {
    const at = this.locate(event);
    this.say(at.point);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, at);
    this.gesture?.move?.(at, event);
  }

  release(event) {
    if (!this.fingers.delete(event.pointerId)) return; // a palm, while two fingers pinch
    const at = this.locate(event);
    const { gesture } = this;
    this.gesture = null;
    gesture?.end?.(at, event);
  }

  cancel(event) {
    this.fingers.delete(event.pointerId);
    this.gesture?.drop?.();
    this.gesture = null;
    this.draw();
  }

  pan(from) {
    const start = { ...this.view };
    return {
      move: (at) => {
        this.view = { ...start, x: start.x + at.screenX - from.screenX, y: start.y + at.screenY - from.screenY };
        this.draw();
      },
    };
  }

  pinch() {
    const middle = () => {
      const [one, two] = [...this.fingers.values()];
      const [x, y] = [(one.screenX + two.screenX) / 2, (one.screenY + two.screenY) / 2];
      return { x, y, reach: Math.hypot(one.screenX - two.screenX, one.screenY - two.screenY) };
    };
    let last = middle();
    return {
      move: () => {
        if (this.fingers.size < 2) return;
        const now = middle();
        this.view.x += now.x - last.x;
        this.view.y += now.y - last.y;
        this.zoom(now.reach / Math.max(1, last.reach), now.x, now.y);
        last = now;
      },
    };
  }

  dragSplit(at) {
    const split = this.model.get("split");
    const width = this.model.get("size")[1];
    const distance = Math.abs(split * width - at.point[1]) * this.view.scale;
    if (split < 0 || distance > 10) return null;
    return {
      move: ({ point }) => {
        this.model.set("split", Math.min(1, Math.max(0, point[1] / width)));
        this.draw();
      },
      end: () => this.model.save_changes(),
    };
  }

  /** A plain press: a click, if the pointer stays where it is. */
  begin(event, from) {
    if (event.button !== 0) return null;
    return {
      end: (at) => {
        const moved = Math.hypot(at.screenX - from.screenX, at.screenY - from.screenY) > 4;
        if (!moved && this.model.get("pointing"))
          this.model.send({ type: "point", y: from.point[0], x: from.point[1] });
      },
    };
  }

  roll(event) {
    event.preventDefault();
    const at = this.locate(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE; // Firefox counts lines of text
    this.zoom(1.2 ** (-event.deltaY / (lines ? 3 : 100)), at.screenX, at.screenY);
  }

  /** Make everything larger; what lies at (x, y) of the canvas stays there. */
  zoom(factor, x, y) {
    const { view, screen } = this;
    const fitting = screen.width / this.model.get("size")[1];
    const scale = Math.min(Math.max(view.scale * factor, fitting / 2), Math.max(40, 2 * fitting));
    const grown = scale / view.scale;
    this.view = { scale, x: x - (x - view.x) * grown, y: y - (y - view.y) * grown };
    this.draw();
  }

  key() {}

  doubleClick() {
    this.fit();
  }
}
