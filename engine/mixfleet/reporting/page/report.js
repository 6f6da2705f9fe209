"use strict";
(() => {
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#1f5fa8", "#c8641b", "#2e8b6f", "#8a5aa8", "#b8a026", "#b5476b", "#4aa3c7", "#7a6a55", "#6b8e23", "#5b6bbf", "#d08a8a", "#4f7f7a", "#9c9c9c"];
// Drawn for the screen at hand, so that no label shrinks on a phone.
const WIDE = innerWidth < 560 ? 360 : 720, MARKS = innerWidth < 560 ? 3 : 6;
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const fleet = read("fleet");
const names = fleet.status.map((row) => row.unit.join(" / "));

// Texts only ever become text nodes.
function node(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
const digits = (value) => Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  for (const [limit, letter] of [[1e9, "bn"], [1e6, "m"], [1e4, "k"]]) {
    if (size >= limit) { const scaled = value / (limit === 1e4 ? 1e3 : limit); return scaled.toFixed(Math.abs(scaled) >= 100 ? 0 : 1) + letter; }
  }
  return size < 0.01 ? value.toPrecision(2) : value.toFixed(digits(value));
}
const percent = (value) => value === null || value === undefined ? "–" : (100 * value).toFixed(Math.abs(value) < 0.1 ? 1 : 0) + " %";
const range = (cell) => cell ? number(cell[0]) + " (" + number(cell[1]) + " to " + number(cell[2]) + ")" : "–";
function table(heads, rows, wide) {
  const cell = (tag, value, i) => node(tag, { class: heads[i].endsWith("#") ? "n" : wide === "mono" && i ? "mono" : null }, value instanceof Node ? value : String(value ?? ""));
  return node("div", { class: "wide" }, node("table", {},
    node("thead", {}, node("tr", {}, ...heads.map((head, i) => cell("th", head.replace(/#$/, ""), i)))),
    node("tbody", {}, ...rows.map((row) => node("tr", {}, ...row.map((value, i) => cell("td", value, i)))))));
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
  // Names of positions 0, 1, ... along x: the first, the last and some between.
  const names = (texts) => {
    const count = Math.min(MARKS, texts.length), last = texts.length - 1;
    for (let i = 0; i < count; i++) {
      const at = count > 1 ? Math.round(i * last / (count - 1)) : 0;
      mark(at, texts[at], i === 0 ? "start" : i === count - 1 ? "end" : "middle");
    }
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
  // rows: [name, [mean, low, high], colour, [prior mean, prior sd]]
  const height = 26 * rows.length + 24, width = 420, left = 120;
  const ends = rows.flatMap(([, cell]) => [cell[1], cell[2]]).concat(reference === undefined ? [] : [reference]);
  const low = Math.min(0, lowest(ends)), high = highest(ends) || 1;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption });
  const x = (value) => left + (Math.min(Math.max(value, low), high) - low) / (high - low || 1) * (width - left - 60);
  let labelled = -Infinity;
  for (const value of new Set([low, reference ?? low, high])) {
    svg.append(shape("line", { x1: x(value), x2: x(value), y1: 2, y2: height - 18, stroke: value === reference ? "#9aa4b2" : "#e3e7ed", ...(value === reference ? { "stroke-dasharray": "3 3" } : {}) }));
    if (x(value) - labelled > 34) { svg.append(shape("text", { x: x(value), y: height - 5, "text-anchor": "middle" }, number(value))); labelled = x(value); }
  }
  rows.forEach(([name, cell, colour, prior], i) => {
    const y = 15 + 26 * i;
    const text = shape("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, name.length > 16 ? name.slice(0, 15) + "…" : name);
    text.append(shape("title", {}, name));
    svg.append(text);
    if (prior && prior[0] !== null) svg.append(shape("line", { x1: x(prior[0] - prior[1]), x2: x(prior[0] + prior[1]), y1: y + 6, y2: y + 6, stroke: "#b7bfca", "stroke-width": 3 }));
    svg.append(shape("line", { x1: x(cell[1]), x2: x(cell[2]), y1: y, y2: y, stroke: colour, "stroke-width": 3, "stroke-linecap": "round" }));
    svg.append(shape("circle", { cx: x(cell[0]), cy: y, r: 4.5, fill: colour }));
    svg.append(shape("text", { x: width - 52, y: y + 4 }, number(cell[0])));
  });
  return figure(caption, svg);
}

function overview() {
  const total = fleet.total, counts = {};
  for (const row of fleet.status) counts[row.status] = (counts[row.status] || 0) + 1;
  const ok = fleet.status.filter((row) => row.ok).length, money = fleet.currency ? " " + fleet.currency : "";
  const tiles = [
    [String(fleet.status.length), "units, " + ok + " certified"],
    total.spend ? [number(total.spend) + money, "spend on paid media"] : null,
    total.roi ? [number(total.roi[0]), "ROI of all paid media, 90 % interval " + number(total.roi[1]) + " to " + number(total.roi[2])] : null,
    total.whole.profit ? [number(total.whole.profit[0]) + money, "profit of all paid media, 90 % interval " + number(total.whole.profit[1]) + " to " + number(total.whole.profit[2])] : null,
    total.whole.ltv_cac ? [number(total.whole.ltv_cac[0]), "LTV:CAC of all paid media, 90 % interval " + number(total.whole.ltv_cac[1]) + " to " + number(total.whole.ltv_cac[2])] : null,
    fleet.plan ? [(fleet.plan.gain.mean >= 0 ? "+" : "") + number(fleet.plan.gain.mean), (fleet.plan.maximise === "profit" ? "profit gain" : "gain") + " of the plan for the next " + fleet.plan.weeks + " weeks"] : null,
  ].filter(Boolean);
  const section = node("section", { id: "overview" }, node("h1", {}, "Media mix report"), node("p", { class: "quiet" }, "Run " + fleet.run),
    node("nav", {}, ...[["map", "Map"], ["remarks", "What needs attention"], ["unit", "One unit"], ["plan", "Budget plan"], ...(fleet.forecast ? [["forecast", "Forecast"]] : []), ...(fleet.tests.length ? [["tests", "Lift tests"]] : []), ["readiness", "Data readiness"], ["provenance", "Provenance"]].map(([id, text]) => node("a", { href: "#" + id }, text))),
    node("div", { class: "tiles" }, ...tiles.map(([big, small]) => node("div", { class: "tile" }, node("b", {}, big), small))),
    node("p", {}, "Units by status: " + Object.entries(counts).map(([name, count]) => count + " " + name).join(", ") + "."));
  if (total.excluded) section.append(node("p", { class: "bad" }, "The totals leave out " + total.excluded + " units that are not certified: " + total.excluded_units + "."));
  const charts = node("div", { class: "charts" });
  if (total.channels.length) charts.append(intervals(total.channels.map((row, i) => [row[0], row.slice(1, 4), COLOURS[i % COLOURS.length]]), "ROI by channel, all certified units, 90 % intervals"));
  if (total.components.length) charts.append(intervals(total.components.filter((row) => row[1] === "channel").map((row, i) => [row[0], row.slice(2, 5), COLOURS[i % COLOURS.length]]), "KPI that each channel brought"));
  const coloured = (rows) => rows.map((row, i) => [row[0], row.slice(1, 4), COLOURS[i % COLOURS.length]]);
  if (total.worth.profit && total.worth.profit.length) charts.append(intervals(coloured(total.worth.profit), "Profit by channel after its cost, 90 % intervals; dashed: none", 0));
  if (total.worth.ltv_cac && total.worth.ltv_cac.length) charts.append(intervals(coloured(total.worth.ltv_cac), "LTV:CAC by channel, 90 % intervals; dashed: money back", 1));
  section.append(charts);
  if (total.claims.length) section.append(node("h3", {}, "What platforms report, and what came"), claimed(total.claims));
  return section;
}
function claimed(rows) {
  const all = rows[rows.length - 1], found = node("div", {}, table(["channel", "reported by the platform#", "share of the KPI#", "incremental (90 %)#", "factor (90 %)#"],
    rows.map((row) => [row[0], number(row[1]), percent(row[2]), range(row[4]), range(row[5])])));
  found.prepend(node("p", {}, "Multiply a platform's number by the factor to have what its channel brought. Together the platforms claim " + percent(all[2]) + " of the KPI of those weeks" + (all[3] > 0 ? ": at least " + percent(all[3]) + " of what they report is claimed more than once or did not come." : ".")));
  return found;
}

function heat() {
  const keys = fleet.keys, section = node("section", { id: "map" }, node("h2", {}, "Map of units"));
  const paid = fleet.status.some((row) => row.roi);
  const picker = node("select", { "aria-label": "What the map shows", onchange: () => draw(picker.value) },
    ...(paid ? [node("option", { value: "" }, "ROI of all paid media"), ...fleet.channels.map((name) => node("option", { value: "c" + name }, "ROI of " + name))] : []),
    node("option", { value: "share" }, "Media's share of the KPI"));
  const place = node("div", { class: "wide" });
  const rowsOf = (row) => keys.length > 1 ? row.unit.slice(0, -1).join(" / ") : row.unit[0];
  const columnOf = (row) => keys.length > 1 ? row.unit[keys.length - 1] : keys[0];
  const rows = [...new Set(fleet.status.map(rowsOf))], columns = [...new Set(fleet.status.map(columnOf))].sort();
  const at = new Map(fleet.status.map((row, i) => [JSON.stringify([rowsOf(row), columnOf(row)]), i]));
  function draw(what) {
    const value = (row) => what === "share" ? (row.share === null ? null : [row.share]) : what ? row.by[what.slice(1)] : row.roi;
    // Colours between the 5 % and 95 % of the units, so that one outlier does not make the rest look alike.
    const means = fleet.status.filter((row) => row.ok && value(row)).map((row) => value(row)[0]).sort((a, b) => a - b);
    const low = means[Math.floor(0.05 * (means.length - 1))] ?? 0, high = means[Math.ceil(0.95 * (means.length - 1))] ?? 1;
    const cell = (name, column) => {
      const i = at.get(JSON.stringify([name, column]));
      if (i === undefined) return node("td", { class: "none" }, "");
      const row = fleet.status[i], found = value(row);
      const open = { tabindex: 0, title: names[i] + ": " + row.status, onclick: () => show(i), onkeydown: (event) => { if (event.key === "Enter") show(i); } };
      if (!row.ok) return node("td", { class: "off", ...open }, row.status, found ? node("small", {}, "not certified") : null);
      if (!found) return node("td", open, "–");
      const share = Math.min(Math.max((found[0] - low) / (high - low || 1), 0), 1);
      // What is uncertain looks pale: the wider the interval for its mean, the more.
      const sure = found.length > 1 ? Math.max(0.25, 1 - (found[2] - found[1]) / (2.5 * Math.abs(found[0]) || 1)) : 1;
      const colour = share < 0.5 ? [200, 100, 27, (1 - 2 * share)] : [31, 95, 168, (2 * share - 1)];
      const strength = 0.75 * colour[3] * sure;
      const style = `background:rgba(${colour[0]},${colour[1]},${colour[2]},${(0.06 + strength).toFixed(3)});color:${strength > 0.55 ? "#fff" : "inherit"}`;
      return node("td", { style, ...open }, what === "share" ? percent(found[0]) : number(found[0]), found.length > 1 ? node("small", {}, number(found[1]) + " – " + number(found[2])) : null);
    };
    place.replaceChildren(node("table", { class: "heat" },
      node("thead", {}, node("tr", {}, node("th", { class: "row" }, keys.join(" / ")), ...columns.map((column) => node("th", {}, column)))),
      node("tbody", {}, ...rows.map((name) => node("tr", {}, node("th", { class: "row" }, name), ...columns.map((column) => cell(name, column)))))));
  }
  section.append(node("p", { class: "quiet" }, "Mean and 90 % interval. Blue is high, orange low among the certified units, pale is uncertain, striped is not certified. Choose a unit to see more."),
    node("div", { class: "picker" }, picker), place);
  draw(paid ? "" : "share");
  return section;
}

function attention() {
  const section = node("section", { id: "remarks" }, node("h2", {}, "What needs attention")), step = 25;
  if (!fleet.remarks.length) { section.append(node("p", {}, "Nothing: every unit is certified and fits well.")); return section; }
  const position = new Map(fleet.status.map((row, i) => [JSON.stringify(row.unit), i]));
  const body = node("tbody"), more = node("button", { onclick: () => add() }, "Show more");
  let shown = 0;
  function add() {
    for (const remark of fleet.remarks.slice(shown, shown + step)) {
      const i = position.get(JSON.stringify(remark.unit));
      body.append(node("tr", {}, node("td", {}, node("span", { class: "tag " + remark.severity }, remark.severity)),
        node("td", {}, node("a", { href: "#unit", onclick: () => show(i) }, names[i])), node("td", {}, remark.text)));
    }
    shown = Math.min(shown + step, fleet.remarks.length);
    more.hidden = shown >= fleet.remarks.length;
  }
  add();
  section.append(node("p", { class: "print quiet" }, "Printed are the ones shown on screen."));
  section.append(node("p", { class: "quiet" }, "A problem must not be used, a doubt used with care, a surprise looked into. " + fleet.remarks.length + " in all."), node("div", { class: "wide" }, node("table", {}, body)), more);
  return section;
}

function weekly(data) {
  const days = data.date.map((_, i) => i), all = [...data.kpi, ...data.q05, ...data.q95];
  const plot = frame(WIDE, 220, [0, days.length - 1], [Math.min(0, lowest(all)), highest(all)], "KPI and fit by week");
  band(plot, days, data.q05, data.q95, "#1f5fa8");
  line(plot, days, data.mean, "#1f5fa8");
  data.kpi.forEach((value, i) => { if (value !== null) plot.svg.append(shape("circle", { cx: plot.x(i), cy: plot.y(value), r: 1.6, fill: "#1c2430" })); });
  plot.names(data.date);
  return figure("KPI by week (dots), model with 90 % interval", plot.svg);
}
function decomposition(data) {
  const parts = Object.entries(data.mean), channels = parts.filter(([name]) => fleet.channels.includes(name)), others = parts.filter(([name]) => !fleet.channels.includes(name));
  const months = data.month.map((_, i) => i), base = months.map((i) => others.reduce((sum, [, values]) => sum + (values[i] ?? 0), 0));
  // What is below zero stacks downwards from zero.
  const layers = [["baseline with trend, seasons and controls", base, "#c3cad4"], ...channels.map(([name, values], i) => [name, values, COLOURS[i % COLOURS.length]])];
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
  return figure("What the KPI of an average " + fleet.step + " is made of, by month (" + (fewest === most ? most : fewest + " to " + most) + " " + fleet.step + "s each)", plot.svg, legend(layers.map(([name, , colour]) => [colour, name])));
}
function curve(name, data, colour) {
  const plot = frame(300, 170, [0, highest(data.spend)], [Math.min(0, lowest(data.q05)), highest(data.q95)], "Response to " + name);
  plot.svg.append(shape("rect", { x: plot.x(0), y: 8, width: Math.max(0, plot.x(data.seen) - plot.x(0)), height: 142, fill: "#f4f6f9" }));
  band(plot, data.spend, data.q05, data.q95, colour); line(plot, data.spend, data.mean, colour);
  plot.svg.append(shape("line", { x1: plot.x(data.usual), x2: plot.x(data.usual), y1: 8, y2: 150, stroke: "#5c6675", "stroke-dasharray": "3 3" }));
  plot.mark(0, "0", "start"); plot.mark(highest(data.spend), number(highest(data.spend)), "end"); plot.mark(data.usual, number(data.usual));
  return figure(name + ": KPI a week by weekly spend or media", plot.svg);
}

function words(row, unit) {
  const fit = row.fit || {}, texts = [];
  texts.push(row.ok ? "The draws passed every check: these numbers can be used." : "This unit is " + row.status + ": do not use its numbers.");
  if (row.reason) texts.push("Reason: " + row.reason + ".");
  if (fit.r2 !== undefined && fit.r2 !== null) texts.push("The model explains " + percent(fit.r2) + " of the KPI's variation and misses a week by " + percent(fit.wmape) + " on average; " + percent(fit.coverage90) + " of the weeks lie in its 90 % interval.");
  if (fit.holdout_r2 !== undefined && fit.holdout_r2 !== null) texts.push("In the weeks it did not see it explains " + percent(fit.holdout_r2) + " and misses by " + percent(fit.holdout_wmape) + ".");
  if (fit.baseline_negative > 0.05) texts.push("With probability " + percent(fit.baseline_negative) + " sales without media would be below zero, which cannot be: media get too much.");
  for (const statement of unit.residuals) texts.push("What the model leaves unexplained: " + statement + ".");
  if (fit.baseline_negative !== undefined && fit.baseline_negative !== null && fit.baseline_negative <= 0.05) texts.push("Sales without media stay above zero (probability of the contrary " + percent(fit.baseline_negative) + ").");
  for (const [channel, other, , statement] of unit.overlap) texts.push(channel + " and " + other + ": " + statement + ".");
  return node("ul", {}, ...texts.map((text) => node("li", {}, text)));
}

let current = -1;
const detail = node("div");
const picker = node("select", { "aria-label": "Unit", onchange: () => show(Number(picker.value), true) }, ...fleet.status.map((row, i) => node("option", { value: i }, names[i] + (row.ok ? "" : " (" + row.status + ")"))));
function show(i, stay) {
  if (i === undefined) return;
  picker.value = String(i);
  if (i !== current) { current = i; detail.replaceChildren(...inside(i)); }
  if (!stay) document.getElementById("unit").scrollIntoView();
}
function inside(i) {
  const row = fleet.status[i], unit = read("unit-" + i), found = [];
  found.push(node("h3", {}, names[i], " ", node("span", { class: "tag" + (row.ok ? "" : " problem") }, row.status)), words(row, unit));
  if (unit.weekly) found.push(weekly(unit.weekly));
  if (unit.parts) found.push(decomposition(unit.parts));
  const paid = Object.entries(unit.channels).filter(([, one]) => one.roi);
  if (paid.length) {
    found.push(node("h3", {}, "Channels"));
    const colour = (name) => COLOURS[fleet.channels.indexOf(name) % COLOURS.length];
    found.push(node("div", { class: "charts" }, intervals(paid.map(([name, one]) => [name, one.roi.slice(0, 3), colour(name), one.prior]), "ROI with 90 % interval; grey: prior, one sd to each side"),
      intervals(paid.map(([name, one]) => [name, one.marginal.slice(0, 3), colour(name)]), "ROI of the last unit of money, 90 % interval; dashed: money back", 1)));
  }
  const shown = Object.entries(unit.channels);
  if (shown.length) found.push(table(["channel", "spend#", "ROI (90 %)#", "marginal ROI#", "half-saturation#", "of ceiling used#", "half-life, weeks#"], shown.map(([name, one]) =>
    [name, number(one.roi && one.roi[3]), range(one.roi), number(one.marginal && one.marginal[0]), number(one.half_saturation && one.half_saturation[0]), percent(one.saturation && one.saturation[0]), number(one.half_life && one.half_life[0])])));
  if (fleet.given.length && paid.length) found.push(worth(paid));
  if (unit.claims.length) found.push(node("h3", {}, "What platforms report, and what came"), claimed(unit.claims));
  const curves = Object.entries(unit.curves);
  if (curves.length) found.push(node("h3", {}, "Response curves"), node("p", { class: "quiet" }, "Shaded: levels that were seen. Dashed: the usual week. Band: 90 % interval."),
    node("div", { class: "charts" }, ...curves.map(([name, data]) => curve(name, data, COLOURS[fleet.channels.indexOf(name) % COLOURS.length]))));
  if (unit.movement.length) found.push(node("details", {}, node("summary", {}, "Did the data say anything? Prior against posterior"),
    table(["parameter", "channel", "prior mean#", "posterior mean#", "sd#", "verdict"], unit.movement.map((one) => [one[0], one[1], number(one[2]), number(one[3]), number(one[4]), one[5]]))));
  if (unit.borrowed.length) found.push(node("h3", {}, "How much it borrowed from its group"),
    node("p", { class: "quiet" }, "Near 100 %: its own data say no more about the parameter than the group does. Near 0 %: its own data fix it."),
    table(["parameter", "channel", "borrowed#", "in words"], unit.borrowed.map((one) => [one[0], one[1], percent(one[2]), one[2] === null ? "–" : one[2] > 0.9 ? "leans on its group" : one[2] > 0.5 ? "partly its group's" : "mostly its own data"])));
  if (unit.findings.length) found.push(node("h3", {}, "What the checks said about its data"), table(["severity", "message"], unit.findings));
  if (unit.plan.length) found.push(node("h3", {}, "Plan"), planned(unit.plan));
  found.push(node("p", { class: "print quiet" }, "Printed is the unit chosen on screen; choose another there to print it."));
  return found;
}
function worth(paid) {
  const mean = (name) => (one) => number(one[name] && one[name][0]), whole = (name) => (one) => range(one[name]);
  const profit = [["profit (90 %)#", whole("profit")], ["profit of the last money#", mean("marginal_profit")]];
  const customers = [["CAC (90 %)#", whole("cpik")], ["marginal CAC#", mean("marginal_cpik")], ["LTV:CAC (90 %)#", whole("ltv_cac")], ["marginal LTV:CAC#", mean("marginal_ltv_cac")], ["payback, periods (90 %)#", whole("payback")]];
  const columns = [...(fleet.given.includes("margin") ? profit : []), ...(fleet.given.includes("customer_value") ? customers : [])];
  return table(["channel", ...columns.map(([head]) => head)], paid.map(([name, one]) => [name, ...columns.map(([, text]) => text(one))]));
}
const planned = (rows) => table(["channel", "today#", "plan#", "change#", (fleet.plan.maximise === "profit" ? "profit gain" : "gain") + " (90 %)#", "what binds"], rows.map((row) =>
  [row[0], number(row[1]), number(row[2]), row[1] ? percent(row[2] / row[1] - 1) : "–", row[3] === null ? "–" : range(row.slice(3, 6)), row[6]]));

function plan() {
  const section = node("section", { id: "plan" }, node("h2", {}, "Budget plan")), data = fleet.plan;
  if (!data) { section.append(node("p", {}, "No plan: no certified unit has a channel with spend.")); return section; }
  const limit = data.gap_share === null ? "" : " No other plan within the limits brings more than " + percent(data.gap_share) + " of the outcome on top.";
  section.append(node("p", {}, "Over the next " + data.weeks + " weeks, spending " + number(data.spend_plan) + " (today " + number(data.spend_today) + ") as below brings " + range([data.gain.mean, data.gain.q05, data.gain.q95]) + (data.maximise === "profit" ? " more profit" : " more") + " than today's plan; it is better in " + percent(data.probability_better) + " of the draws." + limit));
  if (data.excluded) section.append(node("p", { class: "bad" }, "Not certified, so left as they are: " + data.excluded_units.join(", ") + "."));
  for (const note of data.notes) section.append(node("p", { class: "bad" }, note[0].toUpperCase() + note.slice(1) + "."));
  section.append(table(["channel", "today#", "plan#", "change#", data.maximise === "profit" ? "profit gain#" : "gain#"], data.channels.map((row) => [row[0], number(row[1]), number(row[2]), row[1] ? percent(row[2] / row[1] - 1) : "–", number(row[3])])));
  if (data.frontier) section.append(node("h3", {}, "Other totals"), frontier(data.frontier), table(["spend#", "gain (90 %)#", "ROI#", "marginal ROI#"], data.frontier.map((row) => [number(row.spend) + (row.today ? " (today)" : ""), range([row.gain_mean, row.gain_q05, row.gain_q95]), number(row.roi), number(row.marginal_roi)])));
  if (data.experiments) section.append(node("h3", {}, "What to measure next"), table([...fleet.keys, "channel", "spend today#", "worth of an experiment#", "of knowing all#"], data.experiments.map((row) => [...fleet.keys.map((key) => row[key]), row.channel, number(row.spend_today), number(row.experiment_value), number(row.perfect_value)])));
  return section;
}
function forecast() {
  const subjects = fleet.forecast.subjects, place = node("div"), section = node("section", { id: "forecast" }, node("h2", {}, "Forecast"));
  const chooser = node("select", { "aria-label": "Whose forecast", onchange: () => draw(Number(chooser.value)) }, ...subjects.map((one, i) => node("option", { value: i }, one.name + (one.status && !one.status.startsWith("ok") ? " (" + one.status + ")" : ""))));
  function draw(i) {
    const one = subjects[i], steps = one.kpi.map((_, t) => t), column = (j) => one.kpi.map((cell) => cell[j]);
    const plot = frame(WIDE, 220, [0, Math.max(steps.length - 1, 1)], [Math.min(0, lowest(column(1))), highest(column(2))], "Forecast of the KPI");
    if (steps.length > 1) { band(plot, steps, column(1), column(2), "#1f5fa8"); line(plot, steps, column(0), "#1f5fa8"); }
    one.kpi.forEach((cell, t) => plot.svg.append(shape("line", { x1: plot.x(t), x2: plot.x(t), y1: plot.y(cell[1]), y2: plot.y(cell[2]), stroke: "#1f5fa8", opacity: 0.35 }), shape("circle", { cx: plot.x(t), cy: plot.y(cell[0]), r: 2.2, fill: "#1f5fa8" })));
    plot.names(one.period);
    const total = Object.values(one.components).reduce((sum, value) => sum + value, 0);
    place.replaceChildren(...[figure("KPI of " + one.name + " under the plan that was given, with 90 % interval", plot.svg),
      one.status && !one.status.startsWith("ok") ? node("p", { class: "bad" }, "This unit is " + one.status + ": do not use its numbers.") : null,
      one.excluded ? node("p", { class: "bad" }, one.excluded + (one.excluded === 1 ? " unit is" : " units are") + " not certified and left out.") : null,
      one.beyond ? node("p", { class: "quiet" }, "Far outside what the fit has seen: " + one.beyond + ".") : null,
      one.held ? node("p", { class: "quiet" }, "Held at their mean, as nobody said what they will be: " + one.held + ".") : null,
      table(["component", "KPI, all periods#", "share#"], Object.entries(one.components).map(([name, value]) => [name, number(value), percent(total ? value / total : null)]))].filter(Boolean));
  }
  section.append(node("div", { class: "picker" }, chooser), place);
  if (subjects.length) draw(0);
  return section;
}
function tests() {
  const span = (mean, low, high) => number(mean) + " (" + number(low) + " to " + number(high) + ")";
  return node("section", { id: "tests" }, node("h2", {}, "Lift tests"),
    node("p", { class: "quiet" }, "What each test measured, with two standard deviations either way, beside the model's own lift of the same media (95 %): with the test in the fit, and without it. Expected is where, without it, 95 % of such tests would end."),
    table(["unit", "test", "channel", "days", "measured", "test says#", "model with it#", "model without#", "expected#", "in words"], fleet.tests.map((one) =>
      [one[0], one[1], one[2], one[3], one[4], span(one[5], one[5] - 2 * one[6], one[5] + 2 * one[6]), span(one[7], one[8], one[9]), span(one[10], one[11], one[12]), number(one[13]) + " to " + number(one[14]), one[15]])));
}
function readiness() {
  const section = node("section", { id: "readiness" }, node("h2", {}, "Data readiness")), all = fleet.findings, listed = 300;
  if (!all.length) { section.append(node("p", {}, "The checks had nothing to say about the table.")); return section; }
  const rank = ["error", "warning", "info"], count = (name) => all.filter((one) => one[0] === name).length;
  const ordered = [...all].sort((a, b) => rank.indexOf(a[0]) - rank.indexOf(b[0]));
  section.append(node("p", {}, "An error keeps a unit out, a warning makes it doubtful, an info only tells: " + rank.map((name) => count(name) + " " + name).join(", ") + "."));
  section.append(node("details", all.length <= 15 ? { open: "" } : {}, node("summary", {}, all.length + " findings"), table(["severity", "rule", "message"], ordered.slice(0, listed))));
  if (all.length > listed) section.append(node("p", { class: "quiet" }, "The first " + listed + " are listed; summary/findings.parquet in the run's folder has all."));
  return section;
}
function frontier(rows) {
  const of = (name) => rows.map((row) => row[name]), xs = of("spend");
  const plot = frame(WIDE, 220, [xs[0], xs[xs.length - 1]], [lowest(of("gain_q05")), highest(of("gain_q95"))], "gain by total spend");
  band(plot, xs, of("gain_q05"), of("gain_q95"), COLOURS[0]);
  line(plot, xs, of("gain_mean"), COLOURS[0]);
  plot.mark(xs[0], number(xs[0]), "start"); plot.mark(xs[xs.length - 1], number(xs[xs.length - 1]), "end");
  return figure("gain of the best plan of every total, 90 % interval", plot.svg);
}
function provenance() {
  const section = node("section", { id: "provenance" }, node("h2", {}, "Provenance"));
  section.append(table(["what", "value"], fleet.provenance, "mono"));
  return section;
}

const page = document.getElementById("page");
page.replaceChildren(overview(), heat(), attention(), node("section", { id: "unit" }, node("h2", {}, "One unit"), node("div", { class: "picker" }, picker), detail), plan(), ...(fleet.forecast ? [forecast()] : []), ...(fleet.tests.length ? [tests()] : []), readiness(), provenance());
const first = fleet.status.findIndex((row) => row.ok);
if (fleet.status.length) show(Math.max(first, 0), true);
// What is folded on screen would be missing on paper.
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const one of folded) one.open = true; });
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
