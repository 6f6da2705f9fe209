const page = document.getElementById("page");
page.replaceChildren(overview(), heat(), attention(), ...(fleet.since ? [since()] : []), together(), node("section", { id: "unit" }, node("h2", {}, "One unit"), node("div", { class: "picker" }, picker), detail), plan(), ...(fleet.forecast ? [forecast()] : []), ...(fleet.tests.length ? [tests()] : []), readiness(), glossary(), provenance());
const first = fleet.status.findIndex((row) => row.ok);
if (fleet.status.length) show(Math.max(first, 0), true);
// What is folded on screen would be missing on paper.
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const one of folded) one.open = true; });
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
