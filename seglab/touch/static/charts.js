// Learning curves as SVG: one small chart a column, one colour a run, pale across a gap.

const SIZE = { width: 292, height: 150, left: 46, right: 8, top: 22, bottom: 20 };

function svg(tag, attributes, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

/** A number in few letters: four digits, no trailing zeros. */
function short(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return String(Number(value.toPrecision(4))).replace("e+", "e");
}

/** Round numbers from low to high, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

/** Powers of ten between low and high; where there are too few, the two ends. */
function decades(low, high) {
  const powers = ticks(Math.log10(low), Math.log10(high), 3).filter(Number.isInteger);
  return powers.length > 1 ? powers.map((power) => 10 ** power) : [low, high];
}

/** Where values lie between the ends of an axis; `room` in pixels, from low to high. */
function makeScale(values, room, log = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = low ? [low - Math.abs(low) / 2, high + Math.abs(low) / 2] : [-1, 1];
  const bend = log && low > 0 ? Math.log10 : (value) => value;
  const [start, length] = [bend(low), bend(high) - bend(low)];
  const at = (value) => room[0] + ((bend(value) - start) / length) * (room[1] - room[0]);
  const back = (pixel) => low + ((pixel - room[0]) / (room[1] - room[0])) * (high - low); // linear only
  return { low, high, at, back, log: bend === Math.log10 };
}

/** At most a highest and a lowest point a pixel; gaps (null) stay where they are. */
function thin(points, pixels) {
  if (points.length <= 4 * pixels) return points;
  const kept = [];
  const size = Math.ceil(points.length / pixels);
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size);
    const there = part.filter(([, y]) => y !== null);
    if (there.length < part.length) kept.push([part[0][0], null]);
    if (!there.length) continue;
    const lowest = there.reduce((a, b) => (b[1] < a[1] ? b : a));
    const highest = there.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(lowest[0] < highest[0] ? [lowest, highest] : [highest, lowest]));
  }
  return kept;
}

/** A line through neighbours; a point between two gaps is a line of no length. */
function outline(points, across, up) {
  let text = "";
  let pen = false;
  for (const [x, y] of points) {
    const seen = there([x, y]) && !(up.log && y <= 0);
    if (seen) {
      const place = `${across.at(x).toFixed(1)} ${up.at(y).toFixed(1)}`;
      text += pen ? `L${place}` : `M${place}h.01`;
    }
    pen = seen;
  }
  return text;
}

const there = (point) => point !== undefined && point[0] !== null && point[1] !== null;

/** lines: [{name, colour, dashed, points: [[x, y or null], …]}]. The element has `point(x)`. */
function drawChart(title, axis, lines, log) {
  const { width, height, left, right, top, bottom } = SIZE;
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "chart" });
  root.dataset.column = title;
  const xs = lines.flatMap((line) => line.points.map(([x]) => x)).filter((x) => x !== null);
  const ys = lines.flatMap((line) => line.points.map(([, y]) => y)).filter((y) => y !== null);
  const bent = log && ys.some((y) => y > 0);
  const across = makeScale(xs, [left, width - right]);
  const up = makeScale(bent ? ys.filter((y) => y > 0) : ys, [height - bottom, top + 4], bent);
  svg("text", { x: left, y: 13, class: "title" }, root).textContent = title;
  drawAxes(root, across, up, axis);
  for (const line of lines) {
    const points = thin(line.points, width - left - right);
    const whole = outline(points.filter(there), across, up);
    svg("path", { d: whole, class: "curve bridge", stroke: line.colour }, root); // across gaps
    const d = outline(points, across, up);
    const alone = points.filter((_, i) => !there(points[i - 1]) && !there(points[i + 1]));
    const dots = alone.flatMap((point) => [point, [null, null]]);
    svg("path", { d: outline(dots, across, up), class: "curve alone", stroke: line.colour }, root);
    const look = { d, class: "curve", stroke: line.colour, "data-name": line.name };
    svg("path", line.dashed ? { ...look, "stroke-dasharray": "5 3" } : look, root);
  }
  addPointer(root, across, up, lines);
  return root;
}

function drawAxes(root, across, up, axis) {
  const { width, height, left, right, bottom } = SIZE;
  const levels = up.log ? decades(up.low, up.high) : ticks(up.low, up.high, 4);
  for (const value of levels) {
    const y = up.at(value);
    svg("line", { x1: left, x2: width - right, y1: y, y2: y, class: "grid" }, root);
    const label = svg("text", { x: left - 5, y: y + 3.5, class: "tick", "text-anchor": "end" }, root);
    label.textContent = short(value);
  }
  for (const value of ticks(across.low, across.high, 5)) {
    const place = { x: across.at(value), y: height - 6, class: "tick", "text-anchor": "middle" };
    svg("text", place, root).textContent = short(value);
  }
  const name = { x: width - right, y: 13, class: "tick", "text-anchor": "end" };
  svg("text", name, root).textContent = axis;
  const y = height - bottom;
  svg("line", { x1: left, x2: width - right, y1: y, y2: y, class: "axis" }, root);
}

/** The point of a line that is nearest to x, among those that are there. */
function nearest(points, x) {
  let best = null;
  for (const point of points) {
    if (point[0] === null || point[1] === null) continue;
    if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  }
  return best;
}

/** A thin line at the pointer, and each run's dot and value there. */
function addPointer(root, across, up, lines) {
  const { height, left, right, top, bottom, width } = SIZE;
  const group = svg("g", { class: "pointer" }, root);
  root.back = (pixel) => across.back(Math.min(Math.max(pixel, left), width - right));
  root.point = (x) => {
    group.replaceChildren();
    if (x === null || x < across.low || x > across.high) return [];
    const place = across.at(x);
    svg("line", { x1: place, x2: place, y1: top, y2: height - bottom, class: "grid" }, group);
    const found = lines.map((line) => [line, nearest(line.points, x)]).filter(([, point]) => point);
    for (const [line, [at, value]] of found) {
      if (up.log && value <= 0) continue;
      svg("circle", { cx: across.at(at), cy: up.at(value), r: 2.5, fill: line.colour }, group);
    }
    return found.map(([line, [at, value]]) => ({ line, at, value }));
  };
}
