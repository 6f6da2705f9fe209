const RATIO = fleet.valued ? "ROAS" : "return";
const TOPICS = { brought: "What media brought", returns: "What the money returned", next: "Where the next money goes", doubt: "What to test or doubt" };
const MARK = { pass: "\u2713", review: "!", fail: "\u2715" };
function overview() {
  const total = fleet.total, counts = fleet.health.counts;
  const interval = (cell) => "90 %: " + number(cell[1]) + " to " + number(cell[2]);
  const tiles = [
    [fleet.spent, "spent on media"],
    total.roi ? [number(total.roi[0]), RATIO + " of all paid media, " + interval(total.roi)] : null,
    total.whole.profit ? [cash(total.whole.profit[0]), "profit of all paid media, " + interval(total.whole.profit)] : null,
    total.whole.ltv_cac ? [number(total.whole.ltv_cac[0]), "LTV:CAC of all paid media, " + interval(total.whole.ltv_cac)] : null,
    fleet.plan ? [(fleet.plan.gain.mean >= 0 ? "+" : "") + number(fleet.plan.gain.mean), fleet.gained + " by the plan for the next " + plural(fleet.plan.weeks, "week") + ", " + interval([0, fleet.plan.gain.q05, fleet.plan.gain.q95])] : null,
  ].filter((one) => one && one[0] !== null);
  const links = [["map", "Map"], ["remarks", "What needs attention"], ...(fleet.since ? [["since", "Since last time"]] : []), ["together", "All units together"], ["unit", "One unit"], ["plan", "Budget plan"], ...(fleet.forecast ? [["forecast", "Forecast"]] : []), ...(fleet.tests.length ? [["tests", "Lift tests"]] : []), ["readiness", "Data readiness"], ["glossary", "Glossary"], ["provenance", "Provenance"]];
  const section = node("section", { id: "overview" }, node("h1", {}, "Media mix report"),
    node("p", { class: "quiet" }, fleet.subjects + ". Data from " + fleet.period[0] + " to " + fleet.period[1] + ", fitted on " + fleet.made + "; run " + fleet.run + "."),
    node("nav", { "aria-label": "Sections" }, ...links.map(([id, text]) => node("a", { href: "#" + id }, text))),
    node("div", { class: "answers" }, ...fleet.sentences.map(([topic, text]) => node("div", { class: "answer" }, node("h2", {}, TOPICS[topic]), node("p", {}, text.replaceAll(" %", "\u00a0%"))))),
    node("div", { class: "health " + fleet.health.verdict }, node("b", {}, MARK[fleet.health.verdict] + " Model health: " + fleet.health.verdict),
      node("span", {}, " " + plural(counts.pass, "unit") + " pass, " + counts.review + " to review, " + counts.fail + " fail."),
      fleet.health.reasons.length ? node("ul", {}, ...fleet.health.reasons.map((text) => node("li", {}, text + "."))) : null),
    node("div", { class: "tiles" }, ...tiles.map(([big, small]) => node("div", { class: "tile" }, node("b", {}, big), small))));
  if (total.excluded) section.append(node("p", { class: "bad" }, "The totals leave out " + plural(total.excluded, "unit") + " whose numbers cannot be used: " + total.excluded_units + "."));
  const charts = node("div", { class: "charts" }), even = fleet.break_even === null ? undefined : fleet.break_even;
  const coloured = (rows) => rows.map((row) => [row[0], row.slice(1, 4), colourOf(row[0])]);
  if (total.channels.length) charts.append(intervals(coloured(total.channels), RATIO + " by channel, 90 % intervals" + (even === undefined ? "" : "; dashed: money back at " + number(even)), even));
  const brought = total.components.filter((row) => row[1] !== "baseline").map((row) => [row[0], row.slice(2, 5), colourOf(row[0])]);
  if (brought.length) charts.append(intervals(brought, "What each channel " + (total.components.some((row) => row[1] === "treatment") ? "and treatment " : "") + "brought, " + fleet.kpi_unit.replace(/^of /, "") + ", 90 % intervals"));
  if (total.worth.profit && total.worth.profit.length) charts.append(intervals(coloured(total.worth.profit), "Profit by channel after its cost" + (fleet.currency ? ", " + fleet.currency : "") + ", 90 % intervals; dashed: none", 0));
  if (total.worth.ltv_cac && total.worth.ltv_cac.length) charts.append(intervals(coloured(total.worth.ltv_cac), "LTV:CAC by channel, 90 % intervals; dashed: money back", 1));
  section.append(charts);
  if (total.claims.length) section.append(node("h3", {}, "What platforms report, and what came"), claimed(total.claims));
  return section;
}
function claimed(rows) {
  const all = rows[rows.length - 1], found = node("div", {}, table(["channel", "reported by the platform#", "share of all " + fleet.kpi + "#", "incremental (90 %)#", "factor (90 %)#"],
    rows.map((row) => [row[0], number(row[1]), percent(row[2]), range(row[4]), range(row[5])])));
  found.prepend(node("p", {}, "Multiply a platform's number by the factor to have what its channel brought. Together the platforms claim " + percent(all[2]) + " of the KPI of those weeks" + (all[3] > 0 ? ": at least " + percent(all[3]) + " of what they report is claimed more than once or did not come." : ".")));
  return found;
}

function heat() {
  const keys = fleet.keys, section = node("section", { id: "map" }, node("h2", {}, "Map of units"));
  const paid = fleet.status.some((row) => row.roi);
  const picker = node("select", { "aria-label": "What the map shows", onchange: () => draw(picker.value) },
    ...(paid ? [node("option", { value: "" }, RATIO + " of all paid media"), ...fleet.channels.map((name) => node("option", { value: "c" + name }, RATIO + " of " + name))] : []),
    node("option", { value: "share" }, "Media's share of the " + fleet.kpi));
  const place = scrolling();
  const across = (row) => keys.length > 1 ? row.unit[keys.length - 1] : keys[0], along = (row) => keys.length > 1 ? row.unit.slice(0, -1).join(" / ") : row.unit[0];
  const distinct = (of) => [...new Set(fleet.status.map(of))];
  // Many columns would scroll out of sight: the longer side goes down the page.
  const turned = distinct(across).length > Math.max(9, distinct(along).length);
  const [rowsOf, columnOf] = turned ? [across, along] : [along, across];
  const rows = turned ? distinct(rowsOf).sort() : distinct(rowsOf), columns = distinct(columnOf).sort();
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
      const open = { tabindex: 0, title: names[i] + ": " + row.word, onclick: () => show(i), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(i); } } };
      if (!row.ok) return node("td", { class: "off", ...open }, "fail", node("small", {}, row.word.split(":")[0]));
      if (!found) return node("td", open, "–");
      const even = what === "share" || fleet.break_even === null ? null : fleet.break_even;
      const share = even === null ? Math.min(Math.max(high > low ? (found[0] - low) / (high - low) : 0.5, 0), 1)
        : found[0] >= even ? 0.5 + 0.5 * Math.min((found[0] - even) / (Math.max(high, even * 1.5) - even), 1) : 0.5 * Math.max(found[0], 0) / even;
      // What is uncertain looks pale: the wider the interval for its mean, the more.
      const sure = found.length > 1 ? Math.max(0.25, 1 - (found[2] - found[1]) / (2.5 * Math.abs(found[0]) || 1)) : 1;
      const colour = share < 0.5 ? [200, 100, 27, (1 - 2 * share)] : [31, 95, 168, (2 * share - 1)];
      const opacity = 0.06 + 0.75 * colour[3] * sure, [red, green, blue] = colour;
      const style = `background:rgba(${red},${green},${blue},${opacity.toFixed(3)});color:${inkOn(red, green, blue, opacity)}`;
      return node("td", { style, ...open }, (what === "share" ? percent(found[0]) : number(found[0])) + (row.verdict === "review" ? " !" : ""), found.length > 1 ? node("small", {}, number(found[1]) + " – " + number(found[2])) : null);
    };
    place.replaceChildren(node("table", { class: "heat" + (columns.length > 9 ? " dense" : "") + (columns.length === 1 && rows.length > 12 ? " single" : "") },
      node("thead", {}, node("tr", {}, node("th", { class: "row" }, (turned ? [...keys.slice(-1), ...keys.slice(0, -1)] : keys).join(" / ")), ...columns.map((column) => node("th", {}, column)))),
      node("tbody", {}, ...rows.map((name) => node("tr", {}, node("th", { class: "row" }, name), ...columns.map((column) => cell(name, column)))))));
  }
  section.append(node("p", { class: "quiet" }, (columns.length > 9 ? "Means; the 90 % interval is in the unit's own section. " : "Mean and 90 % interval. ") + (fleet.break_even === null || !paid ? "Blue is high and orange low among the units" : "Blue is above break-even (" + number(fleet.break_even) + "), orange below it") + "; pale is uncertain, striped is not to be used, ! asks for a review. Choose a unit to see more."),
    node("div", { class: "picker" }, picker), place);
  draw(paid ? "" : "share");
  return section;
}


function attention() {
  const section = node("section", { id: "remarks" }, node("h2", {}, "What needs attention")), step = 12;
  if (!fleet.remarks.length) { section.append(node("p", {}, "Nothing: every unit passed every check.")); return section; }
  const position = new Map(fleet.status.map((row, i) => [JSON.stringify(row.unit), i]));
  section.append(node("p", { class: "quiet" }, "Grouped by kind, worst first: numbers with a problem are not to be used, those with a doubt with care, and surprises deserve a look."));
  fleet.kinds.forEach(([kind, severity, title, remedy, units], place) => {
    const own = fleet.remarks.filter((one) => one.kind === kind), body = node("tbody"), more = node("button", { onclick: () => add() }, "Show more");
    let shown = 0;
    function add() {
      for (const remark of own.slice(shown, shown + step)) {
        const i = position.get(JSON.stringify(remark.unit));
        body.append(node("tr", {}, node("td", {}, node("a", { href: "#unit", onclick: () => show(i) }, names[i])), node("td", {}, remark.text)));
      }
      shown = Math.min(shown + step, own.length);
      more.hidden = shown >= own.length;
    }
    add();
    section.append(node("details", place < 2 ? { open: "" } : {}, node("summary", {}, node("span", { class: "tag " + severity }, severity), " " + plural(units, "unit") + ": " + title),
      node("p", {}, "What to do: " + plain(remedy) + "."), scrolling(node("table", {}, body)), more));
  });
  section.append(node("p", { class: "print quiet" }, "Printed are the ones shown on screen."));
  return section;
}

const TURNED = "A cause that the table lacks, and that goes with both the " + fleet.kpi + " and the media, could be behind an effect. The weakest one that would turn whether a channel pays for itself has this correlation with what the model leaves of both: the higher, the safer the verdict.";
const AVERAGED = "The answers are an average over several structures, by how well each predicts periods that it did not see; their spread is in the intervals.";
function together() {
  const section = node("section", { id: "together" }, node("h2", {}, "All units together")), change = fleet.waterfall;
  if (fleet.over_time) section.append(decomposition(fleet.over_time));
  if (change) {
    const span = (days) => days[0] + " to " + days[1], total = change.steps.reduce((sum, row) => sum + row[1], 0);
    section.append(steps(change.steps, "What changed " + fleet.kpi + (change.per === "week" ? " per unit and " + fleet.step : "") + " by " + number(total) + ": " + plural(change.periods, fleet.step) + " from " + span(change.after) + " against as many from " + span(change.before)));
  }
  if (fleet.shares.length) section.append(node("div", { class: "charts" },
    pairs(fleet.shares.map((row) => row.slice(0, 3)), "Share of spend against share of what media returned", ["share of spend", "share of what media returned"]),
    intervals(fleet.shares.flatMap((row) => [[row[0], row[3], colourOf(row[0])], ["last money", row[4], "#9aa4b2"]]), RATIO + " and, in grey, that of the last money" + (fleet.break_even === null ? "" : "; dashed: money back"), fleet.break_even === null ? undefined : fleet.break_even)));
  if (fleet.turned.length) section.append(node("h3", {}, "What could turn the verdict"), node("p", { class: "quiet" }, TURNED),
    table(["channel", "pays for itself, units#", "does not, units#", "turned by a cause of correlation below " + number(fleet.easily) + ", units#"], fleet.turned));
  if (fleet.priors.length) section.append(node("h3", {}, "What other priors would say"),
    node("p", { class: "quiet" }, "Of the largest amounts spent: priors of media, curves or baseline counted half (x " + decimal("0.5") + ") or twice (x 2), and of these the one that moves most what the channel brings, in standard deviations of today's answer and as a factor. Where all moves are small, the data decided."),
    table(["unit", "channel", "spend" + money + "#", "priors", "move, standard deviations#", "factor#"], fleet.priors.map(([unit, channel, spend, name, shift, ratio]) => [unit.join(" / "), channel, number(spend), name ?? "only another fit can tell", number(shift), number(ratio)])));
  if (fleet.structures.length) section.append(node("h3", {}, "Structures that were averaged"), node("p", { class: "quiet" }, AVERAGED),
    table(["structure", "weight, mean of the units#"], fleet.structures.map(([name, weight]) => [name, percent(weight)])));
  return section;
}
const CHANGES = { came: "new", went: "gone", status: "with another status", fitted: "fitted anew", same: "unchanged" };
function since() {
  const data = fleet.since, place = new Map(fleet.status.map((row, i) => [JSON.stringify(row.unit), i]));
  const section = node("section", { id: "since" }, node("h2", {}, "Since last time"));
  section.append(node("p", {}, "Units against the earlier run: " + Object.entries(data.units).map(([name, count]) => count + " " + CHANGES[name]).join(", ") + "."));
  if (data.alerts.length) section.append(node("h3", {}, "What deserves a look"), node("ul", {}, ...data.alerts.map((text) => node("li", {}, text + ".")), data.more ? node("li", {}, "and " + data.more + " more; mixfleet compare lists all.") : null));
  if (data.moved.length) section.append(node("h3", {}, "Returns that moved furthest"), table(["unit", "channel", "before#", "now#", "move, in earlier standard deviations#"], data.moved.map(([unit, channel, before, now, moved]) =>
    [place.has(JSON.stringify(unit)) ? node("a", { href: "#unit", onclick: () => show(place.get(JSON.stringify(unit))) }, unit.join(" / ")) : unit.join(" / "), channel, number(before), number(now), (moved > 0 ? "+" : "") + number(moved)])));
  else section.append(node("p", {}, "No return moved."));
  return section;
}
function plan() {
  const section = node("section", { id: "plan" }, node("h2", {}, "Budget plan")), data = fleet.plan;
  if (!data) { section.append(node("p", {}, "No plan: no usable unit has a channel with spend.")); return section; }
  const limit = data.gap_share === null ? "" : " No other plan within the limits adds more than " + percent(data.gap_share) + " of the outcome.";
  section.append(node("p", {}, (fleet.sentences.find(([topic]) => topic === "next") || ["", ""])[1] + limit));
  if (data.excluded) section.append(node("p", { class: "bad" }, "Kept at today's spend, as their numbers cannot be used: " + data.excluded_units.join(", ") + "."));
  for (const note of data.notes) section.append(node("p", { class: "bad" }, note[0].toUpperCase() + note.slice(1) + "."));
  section.append(table(["channel", "today#", "plan#", "change#", gainWord() + "#"], data.channels.map((row) => [row[0], number(row[1]), number(row[2]), row[1] ? percent(row[2] / row[1] - 1) : "–", number(row[3])])));
  section.append(moved());
  if (data.frontier) section.append(node("h3", {}, "Other totals"), frontier(data.frontier), table(["spend#", gainWord() + " (90 %)#", RATIO + "#", RATIO + " of the last money#"], data.frontier.map((row) => [number(row.spend) + (row.today ? " (today)" : ""), range([row.gain_mean, row.gain_q05, row.gain_q95]), number(row.roi), number(row.marginal_roi)])));
  if (data.experiments) section.append(node("h3", {}, "What to measure next"), table([...fleet.keys, "channel", "spend today#", "worth of an experiment#", "of knowing all#"], data.experiments.map((row) => [...fleet.keys.map((key) => row[key]), row.channel, number(row.spend_today), number(row.experiment_value), number(row.perfect_value)])));
  return section;
}
function moved() {
  const found = fleet.moves, place = new Map(fleet.status.map((row, i) => [JSON.stringify(row.unit), i]));
  const change = (today, plan) => today ? (plan >= today ? "+" : "") + percent(plan / today - 1) : "new";
  return node("div", {}, node("h3", {}, "Which units the plan moves"),
    table([...fleet.keys, "today" + money + "#", "plan" + money + "#", "change#", gainWord() + "#"], [...found.units].sort((a, b) => Math.abs(b[2] - b[1]) - Math.abs(a[2] - a[1])).slice(0, 25).map(([unit, today, plan, gain]) =>
      [...unit.map((label, j) => j ? label : node("a", { href: "#unit", onclick: () => show(place.get(JSON.stringify(unit))) }, label)), number(today), number(plan), change(today, plan), number(gain)])),
    node("h3", {}, "Which channels in which units it moves furthest"),
    table(["unit", "channel", "today" + money + "#", "plan" + money + "#", "change#", gainWord() + " (90 %)#", RATIO + " of the last money#"], found.cells.map((row) => [row[0], row[1], number(row[2]), number(row[3]), change(row[2], row[3]), range(row[4]), number(row[5])])),
    found.all > found.cells.length ? node("p", { class: "quiet" }, "The first " + found.cells.length + " of " + found.all + "; budget/plan.csv in the run's folder has all.") : null);
}
function forecast() {
  const subjects = fleet.forecast.subjects, place = node("div"), section = node("section", { id: "forecast" }, node("h2", {}, "Forecast"));
  const bad = (one) => one.status && !one.status.startsWith("ok");
  const chooser = node("select", { "aria-label": "Whose forecast", onchange: () => draw(Number(chooser.value)) }, ...subjects.map((one, i) => node("option", { value: i }, one.name + (bad(one) ? " (not to be used)" : ""))));
  function draw(i) {
    const one = subjects[i], column = (j) => one.kpi.map((cell) => cell[j]), past = one.before ? one.before.kpi : [], last = one.before ? one.before.last_year : [], shift = past.length;
    const times = one.kpi.map((_, t) => t + shift), all = [...column(1), ...column(2), ...past, ...last];
    const plot = frame(WIDE, 230, [0, Math.max(shift + one.kpi.length - 1, 1)], [Math.min(0, lowest(all)), highest(all)], "Forecast of the KPI");
    line(plot, past.map((_, t) => t), past, "#1c2430");
    line(plot, times, last, "#8a5aa8", "4 3");
    if (times.length > 1) { band(plot, times, column(1), column(2), "#1f5fa8"); line(plot, times, column(0), "#1f5fa8"); }
    else one.kpi.forEach((cell, t) => plot.svg.append(shape("line", { x1: plot.x(t + shift), x2: plot.x(t + shift), y1: plot.y(cell[1]), y2: plot.y(cell[2]), stroke: "#1f5fa8" }), shape("circle", { cx: plot.x(t + shift), cy: plot.y(cell[0]), r: 2.2, fill: "#1f5fa8" })));
    plot.names([...(one.before ? one.before.period : []), ...one.period]);
    const total = Object.values(one.components).reduce((sum, value) => sum + value, 0);
    place.replaceChildren(...[figure(fleet.kpi + " of " + one.name + " under the spend that was given, with 90 % interval", plot.svg, legend([["#1c2430", "came"], ["#1f5fa8", "forecast"], ["#8a5aa8", "a year before"]])),
      bad(one) ? node("p", { class: "bad" }, "Do not use the numbers of this unit.") : null,
      one.excluded ? node("p", { class: "bad" }, plural(one.excluded, "unit is", "units are") + " left out, as their numbers cannot be used.") : null,
      one.beyond ? node("p", { class: "quiet" }, "Far outside what the fit has seen: " + one.beyond + ".") : null,
      one.unplanned ? node("p", { class: "bad" }, "Taken to spend nothing, as the plan has no row of it: " + one.unplanned + ".") : null,
      one.held ? node("p", { class: "quiet" }, "Held at their mean, as nobody said what they will be: " + one.held + ".") : null,
      table(["component", fleet.kpi + ", all periods#", "share#"], Object.entries(one.components).map(([name, value]) => [name, number(value), percent(total ? value / total : null)]))].filter(Boolean));
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
  section.append(node("p", {}, "An error keeps a unit out of the fit, a warning asks for a look, an info is only for your information: " + plural(count("error"), "error") + ", " + plural(count("warning"), "warning") + ", " + plural(count("info"), "info") + "."));
  section.append(node("details", all.length <= 15 ? { open: "" } : {}, node("summary", {}, plural(all.length, "finding")), table(["severity", "rule", "message"], ordered.slice(0, listed))));
  if (all.length > listed) section.append(node("p", { class: "quiet" }, "The first " + listed + " are listed; summary/findings.parquet in the run's folder has all."));
  return section;
}
function frontier(rows) {
  const of = (name) => rows.map((row) => row[name]), xs = of("spend");
  const plot = frame(WIDE, 220, [xs[0], xs[xs.length - 1]], [lowest(of("gain_q05")), highest(of("gain_q95"))], gainWord() + " by total spend");
  band(plot, xs, of("gain_q05"), of("gain_q95"), COLOURS[0]);
  line(plot, xs, of("gain_mean"), COLOURS[0]);
  plot.mark(xs[0], number(xs[0]), "start"); plot.mark(xs[xs.length - 1], number(xs[xs.length - 1]), "end");
  return figure(gainWord() + " of the best plan of every total, 90 % interval", plot.svg);
}
function glossary() {
  return node("section", { id: "glossary" }, node("details", {}, node("summary", {}, node("h2", { class: "inline" }, "Glossary")), node("dl", {}, ...fleet.glossary.flatMap(([term, meaning]) => [node("dt", {}, term), node("dd", {}, meaning)]))));
}
function provenance() {
  const section = node("section", { id: "provenance" }, node("h2", {}, "Provenance"));
  section.append(table(["what", "value"], fleet.provenance, "mono"));
  return section;
}

