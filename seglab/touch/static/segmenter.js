// The same picture, with somebody who points at an object. What was said is drawn at once and sent;
// the answer comes as layers and a message "state". A slow answer never covers a newer one.

const SAID = { true: "#2e9e4f", false: "#d43c3c" };
const KEYS = { 0: "fit", " ": "finish", a: "finish_part", "ctrl z": "undo", "ctrl y": "redo", "ctrl shift z": "redo" };

class Segmenter extends Stage {
  constructor(place) {
    super(place);
    this.told = []; // what the kernel knows of the object at hand
    this.waiting = []; // what was sent and not answered yet
    this.sent = new Map(); // number -> time of sending, in ms
    this.number = 0;
    this.watch(["tool", "click_radius", "line_width"], () => this.draw());
    this.root.dataset.testid = "segmenter";
    this.root.dataset.sent = 0;
    this.say();
  }

  // ---- what is said

  begin(event, from) {
    const positive = (event.button !== 2 && !event.ctrlKey) !== this.model.get("negative");
    const tool = this.model.get("tool");
    const path = { kind: tool, positive, points: [from.point] };
    let [moved, slide] = [false, null];
    const shown = (said) => {
      this.drawing = said;
      this.draw();
    };
    return {
      move: (at) => {
        moved ||= Math.hypot(at.screenX - from.screenX, at.screenY - from.screenY) > 4;
        if (!moved) return;
        if (tool === "click") return (slide ??= this.pan(from)).move(at);
        path.points.push(at.point);
        shown(path);
      },
      end: () => {
        shown(null);
        const clicked = !moved && this.model.get("kinds").includes("click");
        if (clicked) this.tell({ kind: "click", positive, points: [from.point] });
        else if (moved && tool !== "click" && path.points.length > (tool === "contour" ? 2 : 1))
          this.tell(path);
      },
      drop: () => shown(null),
    };
  }

  tell(said) {
    const [height, width] = this.model.get("size");
    const within = ([y, x]) => y >= 0 && x >= 0 && y < height && x < width;
    if (!said.points.some(within)) return;
    said.points = said.points.map(([y, x]) => [
      Math.min(Math.max(y, 0), height - 1e-3), Math.min(Math.max(x, 0), width - 1e-3)]);
    const number = this.dispatch({ type: "say", ...said });
    this.waiting.push({ ...said, number });
    this.say(this.point);
    this.draw();
  }

  dispatch(message) {
    const number = ++this.number;
    this.sent.set(number, performance.now());
    this.root.dataset.sent = number;
    this.model.send({ ...message, number });
    return number;
  }

  key(event) {
    const words = [event.ctrlKey || event.metaKey ? "ctrl" : "", event.shiftKey ? "shift" : ""];
    const action = KEYS[[...words, event.key.toLowerCase()].filter(Boolean).join(" ")];
    if (event.key === "Escape") this.cancelGesture();
    else if (action === "fit") this.fit();
    else if (action) this.dispatch({ type: "act", action });
    else return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has commands on the same keys
  }

  doubleClick() {} // two clicks say two things

  cancelGesture() {
    this.gesture?.drop?.();
    this.gesture = null;
    this.draw();
  }

  // ---- what is answered

  async receive(message, buffers) {
    if (message.type !== "state") return super.receive(message, buffers);
    // layers that were sent before this message may still be unpacking
    await Promise.allSettled(this.unpacking ?? []);
    if (message.version < (this.stateVersion ?? 0) || this.undo.signal.aborted) return;
    this.stateVersion = message.version;
    this.number = Math.max(this.number, message.number); // this may be a new page of an old sitting
    this.root.dataset.sent = this.number;
    this.told = message.told;
    this.waiting = this.waiting.filter((said) => said.number > message.number);
    Object.assign(this.root.dataset, { told: this.told.length, objects: message.objects });
    this.draw();
    this.say(this.point);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    const sent = this.sent.get(message.number);
    for (const number of this.sent.keys()) if (number <= message.number) this.sent.delete(number);
    if (sent !== undefined) {
      this.root.dataset.latencyMs = (performance.now() - sent).toFixed(1);
      this.root.dataset.modelMs = message.seconds * 1000;
    }
    if (message.number >= +(this.root.dataset.answered ?? 0)) this.root.dataset.answered = message.number;
  }

  take(message, buffers) {
    const work = super.take(message, buffers);
    this.unpacking = [...(this.unpacking ?? []), work];
    const done = () => (this.unpacking = this.unpacking.filter((other) => other !== work));
    work.then(done, done);
    return work;
  }

  // ---- how it looks

  decorate(context) {
    if (!this.told) return; // before the constructor's end
    const size = (window.devicePixelRatio || 1) / this.view.scale;
    for (const said of [...this.told, ...this.waiting, ...(this.drawing ? [this.drawing] : [])])
      this.drawSaid(context, said, size);
  }

  drawSaid(context, said, size) {
    const at = said.points.map(([y, x]) => [x, y]);
    context.strokeStyle = context.fillStyle = SAID[said.positive];
    context.lineJoin = context.lineCap = "round";
    context.beginPath();
    if (said.kind === "click") {
      context.arc(...at[0], this.model.get("click_radius") * size, 0, 7);
      context.fill();
      context.strokeStyle = "#fff";
      context.lineWidth = size;
    } else {
      at.forEach((point, i) => (i ? context.lineTo(...point) : context.moveTo(...point)));
      if (said.kind === "contour" && said !== this.drawing) context.closePath();
      context.lineWidth = this.model.get("line_width") * size;
    }
    context.stroke();
  }

  say(point) {
    this.point = point;
    super.say(point);
    if (this.waiting?.length) this.status.textContent += " · the network is looking …";
  }

  hint() {
    const drag = { click: "drag: move", stroke: "drag: stroke", contour: "drag: contour" };
    const tool = drag[this.model.get("tool")];
    return `left: object · right: not · ${tool} · Shift: move · wheel: larger · space: done`;
  }
}

export default {
  render: (place) => {
    const stage = new Segmenter(place);
    return () => stage.close();
  },
};
