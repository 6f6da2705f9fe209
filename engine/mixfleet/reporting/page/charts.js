const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#1f5fa8", "#c8641b", "#2e8b6f", "#8a5aa8", "#b8a026", "#b5476b", "#4aa3c7", "#7a6a55", "#6b8e23", "#5b6bbf", "#d08a8a", "#4f7f7a", "#9c9c9c"];
// Drawn for the screen at hand, so that no label shrinks on a phone.
const WIDE = innerWidth < 560 ? 360 : 960, NARROW = 360, MARKS = innerWidth < 560 ? 3 : 8;
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const fleet = read("fleet");
const names = fleet.status.map((row) => row.unit.join(" / "));
const money = fleet.currency ? " " + fleet.currency : "";
const cash = (value) => fleet.locale.currency ? fleet.locale.currency + number(value) : number(value) + money;
const plural = (count, noun, nouns) => count + " " + (count === 1 ? noun : nouns || noun + "s");
const plain = (text) => text.replaceAll("`", "");
const colourOf = (name) => COLOURS[Math.max(fleet.channels.indexOf(name), 0) % COLOURS.length];

// Numbers of the page's own words as the locale has them; those of sentences come so.
const local = (text) => text.replace(/(\d) %/g, (_, digit) => digit + fleet.locale.percent);
const decimal = (text) => text.replace(".", fleet.locale.decimal);
// Texts only ever become text nodes.
function node(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => typeof child === "string" ? local(child) : child));
  return element;
}
function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = local(text);
  return element;
}
const gainWord = () => fleet.plan && fleet.plan.maximise === "profit" ? "profit gain" : "gain";
const digits = (value) => Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  for (const [limit, letter] of [[1e9, "bn"], [1e6, "m"], [1e4, "k"]]) {
    if (size >= limit) { const scaled = value / (limit === 1e4 ? 1e3 : limit); return decimal(scaled.toFixed(Math.abs(scaled) >= 100 ? 0 : 1)) + letter; }
  }
  return decimal(size < 0.01 ? value.toPrecision(2) : value.toFixed(digits(value)));
}
const percent = (value) => value === null || value === undefined ? "–" : decimal((100 * value).toFixed(Math.abs(value) < 0.1 ? 1 : 0)) + fleet.locale.percent;
const range = (cell) => cell ? number(cell[0]) + " (" + number(cell[1]) + " to " + number(cell[2]) + ")" : "–";
function table(heads, rows, wide) {
  const cell = (tag, value, i) => node(tag, { class: heads[i].endsWith("#") ? "n" : wide === "mono" && i ? "mono" : null }, value instanceof Node ? value : String(value ?? ""));
  return scrolling(node("table", {},
    node("thead", {}, node("tr", {}, ...heads.map((head, i) => cell("th", head.replace(/#$/, ""), i)))),
    node("tbody", {}, ...rows.map((row) => node("tr", {}, ...row.map((value, i) => cell("td", value, i)))))));
}
// What may be wider than the page scrolls by itself, with the keyboard too.
function scrolling(...children) { return node("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "table" }, ...children); }
// Ink that can be read on a colour of this opacity over white: of white and dark the one of more contrast (WCAG 2.1).
function inkOn(red, green, blue, opacity) {
  const linear = (part) => { const light = (255 - opacity * (255 - part)) / 255; return light <= 0.04045 ? light / 12.92 : ((light + 0.055) / 1.055) ** 2.4; };
  const light = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#fff" : "#000";
}
function figure(caption, drawing, legend) { return node("figure", {}, node("figcaption", {}, caption), drawing, legend); }
function legend(items) { return node("div", { class: "legend" }, ...items.map(([colour, name]) => node("span", {}, node("i", { style: "background:" + colour }), name))); }

// A frame with axes: x over positions or values, y over values.
function frame(width, height, xs, ys, label) {
  const left = 46, right = 8, top = 8, bottom = 20;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const x = (value) => left + (value - xs[0]) / (xs[1] - xs[0] || 1) * (width - left - right);
  const y = (value) => height - bottom - (value - ys[0]) / (ys[1] - ys[0] || 1) * (height - top - bottom);
  for (let i = 0; i <= 3; i++) {
    const value = ys[0] + (ys[1] - ys[0]) * i / 3;
    svg.append(shape("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "#e3e7ed" }));
    svg.append(shape("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const mark = (value, text, anchor) => svg.append(shape("text", { x: x(value), y: height - 5, "text-anchor": anchor || "middle" }, text));
  // Names of positions 0, 1, ... along x, every so many of them.
  const names = (texts) => {
    const step = Math.ceil(texts.length / MARKS), last = texts.length - 1;
    for (let at = 0; at <= last; at += step) mark(at, texts[at], at === 0 && xs[0] === 0 ? "start" : at === last && last ? "end" : "middle");
  };
  return { svg, x, y, mark, names };
}
const path = (points) => points.map(([x, y], i) => (i ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");
function band(plot, xs, low, high, colour, opacity) {
  const there = xs.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
  if (!there.length) return;
  const up = there.map((i) => [plot.x(xs[i]), plot.y(high[i])]);
  const down = there.map((i) => [plot.x(xs[i]), plot.y(low[i])]).reverse();
  plot.svg.append(shape("path", { d: path([...up, ...down]) + "Z", fill: colour, opacity: opacity || 0.18 }));
}
function line(plot, xs, ys, colour, dashes) {
  let run = [];
  const draw = () => { if (run.length) plot.svg.append(shape("path", { d: path(run), fill: "none", stroke: colour, "stroke-width": 1.6, ...(dashes ? { "stroke-dasharray": dashes } : {}) })); run = []; };
  xs.forEach((value, i) => { if (ys[i] === null) draw(); else run.push([plot.x(value), plot.y(ys[i])]); });
  draw();
}
const known = (values) => values.filter((value) => value !== null && value !== undefined);
// A loop, as spreading long arrays into Math.max may overflow the stack.
const highest = (values) => known(values).reduce((a, b) => Math.max(a, b), -Infinity);
const lowest = (values) => known(values).reduce((a, b) => Math.min(a, b), Infinity);

function intervals(rows, caption, reference) {
  // rows: [name, [mean, low, high], colour, [prior 5 %, prior 95 %]]
  const height = 26 * rows.length + 24, width = NARROW, left = 110;
  const ends = rows.flatMap(([, cell]) => [cell[1], cell[2]]).concat(reference === undefined ? [] : [reference]);
  const low = Math.min(0, lowest(ends)), high = highest(ends) || 1;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption });
  const x = (value) => left + (Math.min(Math.max(value, low), high) - low) / (high - low || 1) * (width - left - 60);
  const labelled = [];
  // The reference first: where two labels would touch, it is the one that stays.
  for (const value of new Set([reference ?? low, low, high])) {
    svg.append(shape("line", { x1: x(value), x2: x(value), y1: 2, y2: height - 18, stroke: value === reference ? "#9aa4b2" : "#e3e7ed", ...(value === reference ? { "stroke-dasharray": "3 3" } : {}) }));
    if (labelled.every((other) => Math.abs(x(value) - other) > 34)) { svg.append(shape("text", { x: x(value), y: height - 5, "text-anchor": "middle" }, number(value))); labelled.push(x(value)); }
  }
  rows.forEach(([name, cell, colour, prior], i) => {
    const y = 15 + 26 * i;
    const text = shape("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, name.length > 16 ? name.slice(0, 15) + "…" : name);
    text.append(shape("title", {}, name));
    svg.append(text);
    if (prior && prior[0] !== null) svg.append(shape("line", { x1: x(prior[0]), x2: x(prior[1]), y1: y + 6, y2: y + 6, stroke: "#b7bfca", "stroke-width": 3 }));
    svg.append(shape("line", { x1: x(cell[1]), x2: x(cell[2]), y1: y, y2: y, stroke: colour, "stroke-width": 3, "stroke-linecap": "round" }));
    svg.append(shape("circle", { cx: x(cell[0]), cy: y, r: 4.5, fill: colour }));
    svg.append(shape("text", { x: width - 52, y: y + 4 }, number(cell[0])));
  });
  return figure(caption, svg);
}

function weekly(data) {
  const days = data.date.map((_, i) => i), all = [...data.kpi, ...data.q05, ...data.q95];
  const plot = frame(WIDE, 220, [0, days.length - 1], [Math.min(0, lowest(all)), highest(all)], "KPI and fit by week");
  band(plot, days, data.q05, data.q95, "#1f5fa8");
  line(plot, days, data.mean, "#1f5fa8");
  data.kpi.forEach((value, i) => { if (value !== null) plot.svg.append(shape("circle", { cx: plot.x(i), cy: plot.y(value), r: 1.6, fill: "#1c2430" })); });
  plot.names(data.date);
  return figure(fleet.kpi + " by " + fleet.step + " (dots), and the model with its 90 % interval", plot.svg);
}
function decomposition(data) {
  const parts = Object.entries(data.mean), channels = parts.filter(([name]) => fleet.channels.includes(name)), others = parts.filter(([name]) => !fleet.channels.includes(name));
  const months = data.month.map((_, i) => i), base = months.map((i) => others.reduce((sum, [, values]) => sum + (values[i] ?? 0), 0));
  // What is below zero stacks downwards from zero.
  const layers = [["without media: level, trend, seasons, controls", base, "#c3cad4"], ...channels.map(([name, values]) => [name, values, colourOf(name)])];
  const tops = months.map((i) => layers.reduce((sum, [, values]) => sum + Math.max(values[i] ?? 0, 0), 0)), bottoms = months.map((i) => layers.reduce((sum, [, values]) => sum + Math.min(values[i] ?? 0, 0), 0));
  const plot = frame(WIDE, 240, [-0.5, months.length - 0.5], [Math.min(0, lowest(bottoms)), highest(tops)], "KPI of an average " + fleet.step + " by month and component");
  const width = Math.max(1, plot.x(1) - plot.x(0) - 1);
  for (const i of months) {
    let up = 0, down = 0;
    for (const [, values, colour] of layers) {
      const value = values[i] ?? 0, from = value >= 0 ? up : down, to = from + value;
      const y = Math.min(plot.y(from), plot.y(to));
      const bar = shape("rect", { x: plot.x(i) - width / 2, y, width, height: Math.abs(plot.y(from) - plot.y(to)), fill: colour });
      bar.append(shape("title", {}, data.month[i] + ": " + data.weeks[i] + " " + fleet.step + (data.weeks[i] === 1 ? "" : "s")));
      plot.svg.append(bar);
      if (value >= 0) up = to; else down = to;
    }
  }
  plot.names(data.month);
  const fewest = lowest(data.weeks), most = highest(data.weeks);
  return figure("What the " + fleet.kpi + " of an average " + fleet.step + " is made of, by month (" + (fewest === most ? most : fewest + " to " + most) + " " + fleet.step + "s each)", plot.svg, legend(layers.map(([name, , colour]) => [colour, name])));
}
function curve(name, data, colour) {
  const plot = frame(300, 170, [0, highest(data.spend)], [Math.min(0, lowest(data.q05)), highest(data.q95)], "Response to " + name);
  plot.svg.append(shape("rect", { x: plot.x(0), y: 8, width: Math.max(0, plot.x(data.seen) - plot.x(0)), height: 142, fill: "#f4f6f9" }));
  band(plot, data.spend, data.q05, data.q95, colour); line(plot, data.spend, data.mean, colour);
  plot.svg.append(shape("line", { x1: plot.x(data.usual), x2: plot.x(data.usual), y1: 8, y2: 150, stroke: "#5c6675", "stroke-dasharray": "3 3" }));
  plot.mark(0, "0", "start"); plot.mark(highest(data.spend), number(highest(data.spend)), "end"); plot.mark(data.usual, number(data.usual));
  return figure(name + ": " + fleet.kpi + " a " + fleet.step + " at that spend (or media) every " + fleet.step, plot.svg);
}

// Steps from one total to another: what each component added or took away.
function steps(rows, caption) {
  const height = 24 * rows.length + 26, width = WIDE, left = WIDE < 500 ? 110 : 150, right = 60;
  let at = 0;
  const bars = rows.map(([name, mean]) => { const from = at; at += mean; return [name, from, at, mean]; });
  const low = Math.min(0, lowest(bars.flatMap((one) => [one[1], one[2]]))), high = Math.max(0, highest(bars.flatMap((one) => [one[1], one[2]])));
  const x = (value) => left + (value - low) / (high - low || 1) * (width - left - right);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption });
  svg.append(shape("line", { x1: x(0), x2: x(0), y1: 2, y2: height - 20, stroke: "#9aa4b2" }));
  bars.forEach(([name, from, to, mean], i) => {
    const y = 4 + 24 * i;
    svg.append(label(name, left - 8, y + 12));
    svg.append(shape("rect", { x: Math.min(x(from), x(to)), y, width: Math.max(1, Math.abs(x(to) - x(from))), height: 16, fill: mean < 0 ? "#c8641b" : "#1f5fa8" }));
    svg.append(shape("text", { x: Math.max(x(from), x(to)) + 6, y: y + 12 }, (mean > 0 ? "+" : "") + number(mean)));
  });
  return figure(caption, svg);
}
// Two bars for each row: shares of one thing and of another.
function pairs(rows, caption, heads) {
  const height = 34 * rows.length + 8, width = NARROW, left = 110, most = highest(rows.flatMap((row) => [row[1], row[2]])) || 1;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption });
  rows.forEach(([name, ...values], i) => {
    svg.append(label(name, left - 8, 34 * i + 18));
    values.forEach((value, j) => {
      const y = 34 * i + 4 + 13 * j, length = value / most * (width - left - 56);
      svg.append(shape("rect", { x: left, y, width: Math.max(1, length), height: 11, fill: j ? "#1f5fa8" : "#b7bfca" }));
      svg.append(shape("text", { x: left + Math.max(1, length) + 5, y: y + 10 }, percent(value)));
    });
  });
  return figure(caption, svg, legend([["#b7bfca", heads[0]], ["#1f5fa8", heads[1]]]));
}
function label(name, x, y) {
  const text = shape("text", { x, y, "text-anchor": "end" }, name.length > 18 ? name.slice(0, 17) + "\u2026" : name);
  text.append(shape("title", {}, name));
  return text;
}
function lags(data) {
  const entries = Object.entries(data), most = highest(entries.map(([, values]) => values.length)), plot = frame(WIDE, 170, [0, Math.max(most - 1, 1)], [0, 1], "How long effects last");
  for (const [name, values] of entries) line(plot, values.map((_, i) => i), values, colourOf(name));
  plot.names(Array.from({ length: most }, (_, i) => String(i)));
  return figure("Share of the effect that comes so many " + fleet.step + "s after the media", plot.svg, legend(entries.map(([name]) => [colourOf(name), name])));
}
