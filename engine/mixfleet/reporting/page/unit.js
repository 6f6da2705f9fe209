const EVEN = fleet.break_even === null ? undefined : fleet.break_even;
function words(i, row, unit) {
  const fit = row.fit || {}, texts = [];
  const own = fleet.remarks.filter((one) => one.unit.join(" / ") === names[i]);
  texts.push({ pass: "Every check passed.", review: "Usable with care, for the reasons below.", fail: "Do not use the numbers of this unit" + (row.reason ? ": " + row.reason : "") + "." }[row.verdict]);
  if (row.verdict === "pass" && row.word !== "usable") texts.push("The unit is " + row.word + ".");
  if (fit.r2 !== undefined && fit.r2 !== null) texts.push("The model explains " + percent(fit.r2) + " of the variation of " + fleet.kpi + " and is off by " + percent(fit.wmape) + " in an average " + fleet.step + "; " + percent(fit.coverage90) + " of the " + fleet.step + "s lie in its 90 % interval.");
  if (fit.holdout_r2 !== undefined && fit.holdout_r2 !== null) texts.push("In the " + fleet.step + "s that it did not see it explains " + percent(fit.holdout_r2) + " and misses by " + percent(fit.holdout_wmape) + ".");
  if (fit.baseline_negative > 0.005) texts.push("Sales without media are below zero with probability " + percent(fit.baseline_negative) + ".");
  if (unit.checked && !unit.checks.length) texts.push("None of " + unit.checked + " checks of the model speaks against it.");
  for (const [channel, other, , statement] of unit.overlap) if (!statement.startsWith("cannot")) texts.push(channel + " and " + other + ": " + statement + ".");
  const step = new Map(fleet.kinds.map((kind) => [kind[0], kind[3]]));
  const list = node("ul", {}, ...texts.map((text) => node("li", {}, text)));
  for (const remark of own) if (remark.severity !== "problem") list.append(node("li", {}, node("span", { class: "tag " + remark.severity }, remark.severity), " " + remark.text[0].toUpperCase() + remark.text.slice(1) + ". What to do: " + plain(step.get(remark.kind)) + "."));
  return list;
}
let current = -1;
const detail = node("div");
const picker = node("select", { "aria-label": "Unit", onchange: () => show(Number(picker.value), true) }, ...fleet.status.map((row, i) => node("option", { value: i }, names[i] + (row.verdict === "pass" ? "" : " (" + row.verdict + ")"))));
function show(i, stay) {
  if (i === undefined) return;
  picker.value = String(i);
  if (i !== current) { current = i; detail.replaceChildren(...inside(i)); }
  if (!stay) document.getElementById("unit").scrollIntoView();
}
function inside(i) {
  const row = fleet.status[i], unit = read("unit-" + i), found = [];
  found.push(node("h3", {}, names[i], " ", node("span", { class: "tag " + ({ review: "doubt", fail: "problem" }[row.verdict] || "") }, row.verdict)), words(i, row, unit));
  if (unit.weekly) found.push(weekly(unit.weekly));
  if (unit.parts) found.push(decomposition(unit.parts));
  if (unit.words.length) found.push(node("h3", {}, "Price and other controls"), node("ul", {}, ...unit.words.map((text) => node("li", {}, text))));
  const paid = Object.entries(unit.channels).filter(([, one]) => one.roi);
  if (paid.length) {
    found.push(node("h3", {}, "Channels"));
    found.push(node("div", { class: "charts" }, intervals(paid.map(([name, one]) => [name, one.roi.slice(0, 3), colourOf(name), one.prior]), RATIO + " with 90 % interval; grey: what the prior held likely; dashed: money back", EVEN),
      intervals(paid.map(([name, one]) => [name, one.marginal.slice(0, 3), colourOf(name)]), RATIO + " of the last money, 90 % interval; dashed: money back", EVEN)));
  }
  const shown = Object.entries(unit.channels);
  if (shown.length) found.push(table(["channel", "spend" + money + "#", RATIO + " (90 %)#", RATIO + " of the last money#", "spend a " + fleet.step + " for half of the most it can bring#", "of that most, used#", "half of the effect after, " + fleet.step + "s#"], shown.map(([name, one]) =>
    [name, number(one.roi && one.roi[3]), range(one.roi), number(one.marginal && one.marginal[0]), number(one.half_saturation && one.half_saturation[0]), percent(one.saturation && one.saturation[0]), number(one.half_life && one.half_life[0])])));
  if (fleet.given.length && paid.length) found.push(worth(paid));
  const turned = shown.filter(([, one]) => one.turned && one.turned[1] !== null);
  if (turned.length) found.push(node("h3", {}, "What could turn the verdict"), node("p", { class: "quiet" }, TURNED),
    table(["channel", "today's verdict", "correlation that turns it#"], turned.map(([name, one]) => [name, one.turned[0] === "above" ? "pays for itself" : "does not pay for itself", number(one.turned[1])])));
  if (unit.structures.length) found.push(node("h3", {}, "What each structure says by itself"), node("p", { class: "quiet" }, AVERAGED),
    table(["structure", "weight#", ...paid.map(([name]) => RATIO + " of " + name + " (90 %)#")], unit.structures.map(([name, weight, said]) => [name, percent(weight), ...paid.map(([channel]) => range(said[channel]))])));
  if (unit.claims.length) found.push(node("h3", {}, "What platforms report, and what came"), claimed(unit.claims));
  const curves = Object.entries(unit.curves);
  if (curves.length) found.push(node("h3", {}, "Response curves"), node("p", { class: "quiet" }, "Shaded: levels that were seen; beyond them the curve is a guess. Dashed: the usual " + fleet.step + ". Band: 90 % interval."),
    node("div", { class: "charts" }, ...curves.map(([name, data]) => curve(name, data, colourOf(name)))));
  if (Object.keys(unit.lags).length) found.push(node("h3", {}, "How long effects last"), lags(unit.lags));
  if (unit.movement.length) found.push(node("details", {}, node("summary", {}, "What the data added to the prior"),
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
const planned = (rows) => table(["channel", "today#", "plan#", "change#", gainWord() + " (90 %)#", "what binds"], rows.map((row) =>
  [row[0], number(row[1]), number(row[2]), row[1] ? percent(row[2] / row[1] - 1) : "–", row[3] === null ? "–" : range(row.slice(3, 6)), row[6]]));

