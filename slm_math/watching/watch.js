// What the page knows of the run, and its views.
const known = { generation: "", revision: 0, rows: 0 };
const steps = new Map(); // "epoch,batch" -> step
const metrics = new Map(); // name -> points
const meanings = {};
const charts = new Map();
let [ordered, evaluations, filters, status] = [[], [], [], null];
let [problems, failures, lists] = [0, 0, {}];
let asked = new URLSearchParams();
let shown = { step: "", problem: "", samples: "" };

const FIRST = ["reward", "loss", "accuracy", "kl", "entropy", "truncated", "length", "frac_reward_zero_std", "grad_norm", "lr", "logp_diff", "token_accuracy"].map((name) => `train/${name}`);
const keyOf = (step) => `${step.epoch},${step.batch}`;
const stepLink = (step) => `#view=steps&epoch=${step.epoch}&batch=${step.batch}`;

function forget() {
  steps.clear();
  metrics.clear();
  shown = { step: "", problem: "", samples: "" };
}

// what the server says is new; whether there was anything
function take(found) {
  if (found.generation !== known.generation) forget();
  Object.assign(known, { generation: found.generation, revision: found.revision, rows: found.count });
  Object.assign(meanings, found.meanings);
  for (const step of found.steps) steps.set(keyOf(step), step);
  for (const [step, values] of found.rows)
    for (const [name, value] of Object.entries(values)) {
      if (!metrics.has(name)) metrics.set(name, []);
      metrics.get(name).push([step, value]);
    }
  ordered = [...steps.values()].sort((a, b) => a.epoch - b.epoch || a.batch - b.batch);
  const news = found.steps.length + found.rows.length > 0 || found.problems !== problems;
  const others = JSON.stringify(evaluations) !== JSON.stringify(found.evaluations);
  [evaluations, filters, status, problems] = [found.evaluations, found.filters, found.status, found.problems];
  return news || others;
}

async function poll() {
  let wait = 1000;
  try {
    const found = await ask("/state", known);
    if (failures > 1) say("");
    failures = 0;
    const first = !known.generation;
    const news = take(found);
    about(found.run);
    showStatus(found);
    if (news || first) show();
    const [behind, size] = found.behind;
    at("reading").textContent = behind > 0 ? `reading the run: ${Math.round(100 * (1 - behind / Math.max(size, 1)))} %` : "";
    if (behind > 0 && news) wait = 0;
    else if (["ended", "stopped", "failed"].includes(status.state)) wait = 3000;
  } catch (error) {
    failures += 1;
    wait = 2000;
    if (failures > 1) say(`The server does not answer any more (${error.message}): start slm-math watch again.`);
  }
  setTimeout(poll, wait);
}

function say(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = !text;
}

function about(run) {
  at("name").textContent = run.name;
  document.title = `${run.name} \u00b7 watch`;
  at("about").textContent = [run.folder, run.policy && `policy ${run.policy}`, run.started && `started ${run.started}`].filter(Boolean).join(" \u00b7 ");
  at("about").title = run.command;
  at("report").textContent = `slm-math report ${run.folder} makes one file of all evaluations, with figures and transcripts.`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 120) return `${seconds < 10 ? Number(seconds.toPrecision(2)) : Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function showStatus({ status: now }) {
  const kinds = { running: "good", stale: "bad", failed: "bad" };
  const state = element("span", { className: `chip ${kinds[now.state] ?? ""}`, textContent: now.state });
  const facts = [];
  if (now.phase !== undefined) {
    const of = (done, total) => (total === null ? done : `${done} of ${total}`);
    const batch = `${of(now.batch, now.batches)}${now.epochs === 1 ? "" : `, epoch ${now.epoch}${now.epochs === null ? "" : ` (${now.epochs} in all)`}`}`;
    facts.push([["running", "stale"].includes(now.state) ? "phase" : "last phase", `${now.phase}${now.total ? `: ${now.done} of ${now.total}` : ""}`]);
    facts.push(["batch", batch], ["updates", of(now.step, now.steps)]);
    facts.push(["per batch", duration(now.seconds_per_batch)]);
    const speed = metrics.get("train/tokens_per_second/generate") ?? metrics.get("train/tokens_per_second");
    if (speed) facts.push(["tokens/s", number(speed[speed.length - 1][1])]);
    if (now.state === "running") facts.push(["left", now.seconds_left === null ? "-" : `about ${duration(now.seconds_left)}`]);
    facts.push(["last moved", new Date(1000 * now.moved).toLocaleString("sv")]);
  }
  const list = element("dl", { className: "numbers" }, facts.map(([name, value]) => element("div", {}, [element("dt", { textContent: name }), element("dd", { textContent: String(value) })])));
  const bar = element("progress", { max: now.total || 1, value: now.state === "running" ? now.done : 0 });
  bar.setAttribute("aria-label", "progress of the phase");
  bar.hidden = !(now.state === "running" && now.total);
  at("status").replaceChildren(element("p", {}, [state, " ", now.text]), list, bar);
}

function chart(name, place, title, caption, options) {
  if (!charts.has(name)) {
    charts.set(name, new Chart(title, caption, options));
    place.append(charts.get(name).figure);
  }
  return charts.get(name);
}

const pickStep = (x) => {
  const step = ordered.find((each) => each.place === x);
  if (step) location.hash = stepLink(step);
};

function rewardSeries() {
  const roles = [...new Set(ordered.flatMap((step) => Object.keys(step.rewards)))];
  return roles.map((role, color) => ({
    name: role,
    color,
    points: ordered.filter((step) => step.rewards[role]).map((step) => [step.place, ...step.rewards[role]]),
  }));
}

function accuracySeries() {
  const agents = [...new Set(evaluations.map((each) => each.name.split("/").slice(1).join("/")))];
  return agents.map((agent, color) => {
    const ends = (name) => new Map(metrics.get(`eval/${agent}/${name}`) ?? []);
    const [low, high] = [ends("low"), ends("high")];
    const points = [...ends("accuracy")].map(([x, y]) => [x, y, low.get(x), high.get(x)]);
    const start = evaluations.find((each) => each.name === `start/${agent}` && each.accuracy);
    return { name: agent, color, points: start ? [[0, ...start.accuracy], ...points] : points };
  });
}

function showOverview() {
  const place = at("main-charts");
  const last = ordered[ordered.length - 1];
  const groups = last ? `; the last step has ${last.groups} groups and ${last.samples} samples` : "";
  chart("reward", place, "Reward", "", { pick: pickStep }).update(rewardSeries(), `The mean of the groups' mean rewards with its 95 % interval (Student's t over groups)${groups}. Thick: the mean of ${RECENT} steps. A click opens a step.`);
  chart("accuracy", place, "Accuracy of evaluations", "", { shares: true }).update(accuracySeries(), "With 95 % intervals over problems.");
  for (const name of ["train/loss", "val/loss"]) {
    const points = ordered.length && name === "train/loss" ? [] : metrics.get(name) ?? [];
    chart(name, place, name, meanings[name] ?? "").update([{ name, color: 0, points }]);
  }
  const rows = names().map((name) => {
    const points = metrics.get(name);
    const [step, value] = points[points.length - 1];
    return element("tr", {}, [
      element("th", { scope: "row", className: "name", textContent: name }),
      element("td", { textContent: step }),
      element("td", { textContent: number(value), className: value === null ? "wrong" : "" }),
      element("td", { className: "name meaning", textContent: meanings[name] ?? "" }),
    ]);
  });
  at("latest").tBodies[0].replaceChildren(...rows);
}

// the names of metrics: the telling ones first, those of evaluations last
function names(words = []) {
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : name.startsWith("eval/") ? 900 : 100);
  const some = [...metrics.keys()].filter((name) => words.every((word) => name.toLowerCase().includes(word)));
  const all = words.length ? some : some.filter((name) => !name.startsWith("eval/"));
  return all.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

function showCurves() {
  const found = names(at("names").value.toLowerCase().split(/\s+/).filter(Boolean));
  at("curve-count").textContent = `${found.length} of ${metrics.size} curves`;
  const wanted = found.map((name) => {
    if (!charts.has(`all ${name}`)) charts.set(`all ${name}`, new Chart(name, "", { pick: pickStep }));
    return charts.get(`all ${name}`);
  });
  const place = at("all-charts");
  if (wanted.some((each, index) => place.children[index] !== each.figure) || place.children.length !== wanted.length) place.replaceChildren(...wanted.map((each) => each.figure));
  wanted.forEach((each, index) => each.update([{ name: found[index], color: 0, points: metrics.get(found[index]) }], meanings[found[index]] ?? ""));
}

function stepRow(step) {
  const rewards = Object.values(step.rewards).map((ends) => ends[0].toFixed(3)).join(", ");
  const text = `${percent(step.right / step.samples)} % right`;
  const link = element("a", { href: stepLink(step), className: keyOf(step) === shown.step ? "here" : "" }, [
    element("span", { className: "place", textContent: step.place }),
    element("span", { textContent: rewards ? `reward ${rewards}` : "" }),
    element("span", { className: "faint", textContent: text }),
  ]);
  return element("div", {}, [link]);
}

async function showSteps() {
  at("step-count").textContent = ordered.length ? `${ordered.length} steps with rollouts` : "This run has no rollouts: fine-tuning samples none.";
  lists.steps ??= new List(at("step-list"), 38, (from, count) => ordered.slice(from, from + count), stepRow);
  const wanted = asked.has("batch") ? steps.get(`${asked.get("epoch")},${asked.get("batch")}`) : null;
  at("newest").checked = !wanted;
  const step = wanted ?? ordered[ordered.length - 1];
  const number = ordered.indexOf(step);
  at("step-before").disabled = number <= 0;
  at("step-after").disabled = number < 0 || number >= ordered.length - 1;
  at("step-before").onclick = () => (location.hash = stepLink(ordered[number - 1]));
  at("step-after").onclick = () => (location.hash = stepLink(ordered[number + 1]));
  const mark = step ? `${keyOf(step)}` : "";
  const fresh = shown.step !== mark || shown.samplesOf !== step?.samples;
  Object.assign(shown, { step: mark, samplesOf: step?.samples });
  lists.steps.resize(ordered.length, true);
  if (!step || !fresh) return;
  lists.steps.reveal(number);
  at("step-title").textContent = `Step ${step.place} (epoch ${step.epoch}, batch ${step.batch}): ${step.groups} groups, ${step.samples} samples`;
  const { groups } = await ask("/step", { epoch: step.epoch, batch: step.batch });
  if (shown.step !== mark) return;
  const sizes = sizesOf(groups);
  at("step-groups").replaceChildren(...groups.map((group) => card(group, { heading: group.id, link: `#view=problem&number=${group.problem}`, sizes })));
}

function showProblems() {
  const words = at("words").value.trim();
  lists.problems ??= new List(at("problem-list"), 56, async (from, count) => (await ask("/problems", { q: at("words").value.trim(), from, count })).rows, problemRow);
  ask("/problems", { q: words, count: 0 }).then(({ total }) => {
    if (at("words").value.trim() !== words) return;
    at("problem-count").textContent = `${total} of ${problems} problems`;
    lists.problems.resize(total, true);
  });
}

function problemRow(row) {
  const facts = `${row.id} \u00b7 drawn ${row.times === 1 ? "once" : `${row.times} times`} \u00b7 ${percent(row.right / row.samples)} % of ${row.samples} samples right`;
  const link = element("a", { href: `#view=problem&number=${row.number}`, className: "two" }, [element("span", { className: "head", textContent: row.text }), element("span", { className: "faint", textContent: facts })]);
  return element("div", {}, [link]);
}

async function showProblem() {
  const mark = `${asked.get("number")} ${known.revision}`;
  if (shown.problem === mark) return;
  shown.problem = mark;
  const found = await ask("/problem", { number: asked.get("number") });
  if (shown.problem !== mark) return;
  at("problem-title").textContent = found.id;
  const last = found.groups[found.groups.length - 1];
  const some = found.times > found.groups.length ? `, the last ${found.groups.length} of them here` : "";
  at("problem-text").textContent = `${last.text}\n\nSteps that drew it: ${found.times}${some}.`;
  const roles = [...new Set(found.groups.flatMap((group) => Object.keys(group.rewards)))];
  const series = roles.map((role, color) => ({ name: role, color, points: found.groups.filter((group) => role in group.rewards).map((group) => [group.place, group.rewards[role]]) }));
  chart("problem", at("problem-chart"), "Mean reward of the problem's samples", "").update(found.groups.length > 1 ? series : []);
  const sizes = sizesOf(found.groups);
  at("problem-groups").replaceChildren(...found.groups.map((group) => card(group, { heading: `step ${group.place}`, link: stepLink(group), sizes, task: "" })));
}

function showEvaluations() {
  chart("accuracy of all", at("evaluation-charts"), "Accuracy of evaluations", "", { shares: true }).update(accuracySeries(), "With 95 % intervals over problems.");
  const rows = evaluations.map((each) => {
    const link = element("a", { href: `#view=evaluations&name=${encodeURIComponent(each.name)}`, textContent: each.name });
    const [share, low, high] = each.accuracy ?? [null, null, null];
    const cells = [percent(share), each.accuracy ? `${percent(low)} \u2013 ${percent(high)}` : "-", each.problems, each.partial ? `${each.done} of ${each.expected}` : each.done, each.step ?? "-"];
    return element("tr", {}, [element("th", { scope: "row", className: "name" }, [link]), ...cells.map((text) => element("td", { textContent: text }))]);
  });
  at("evaluation-table").tBodies[0].replaceChildren(...rows);
  const [name, filter] = [asked.get("name"), asked.get("filter") ?? ""];
  const one = evaluations.find((each) => each.name === name);
  at("samples").hidden = !one;
  if (one) showSamples(one, filter);
}

function showSamples(one, filter) {
  const mark = `${one.name} ${filter} ${one.done}`;
  if (shown.samples === mark) return;
  const moved = !shown.samples.startsWith(`${one.name} ${filter} `);
  shown.samples = mark;
  at("samples-title").textContent = one.name;
  at("filters").replaceChildren(...["", ...filters].map((each) => {
    const link = element("a", { className: "chip", href: `#view=evaluations&name=${encodeURIComponent(one.name)}&filter=${encodeURIComponent(each)}`, textContent: each || "all" });
    if (each === filter) link.setAttribute("aria-current", "true");
    return link;
  }));
  const get = (from, count) => ask("/evaluation", { name: one.name, filter, from, count });
  lists.samples = new List(at("sample-list"), 56, async (from, count) => (await get(from, count)).rows, (row, number) => sampleRow(one.name, row, number));
  if (moved) at("sample-list").scrollTop = 0;
  const read = async () => {
    const { total, behind } = await get(0, 0);
    if (shown.samples !== mark) return;
    at("sample-count").textContent = `${total} of ${one.done} samples`;
    lists.samples.resize(total, true);
    if (behind > 0) setTimeout(read, 50);
  };
  read();
}

function sampleRow(name, row, number) {
  const place = async (each) => ({ evaluation: name, number: (await lists.samples.rows(each, 1))[0].number });
  const button = element("button", { type: "button", className: "plain two", onclick: () => Transcripts.open(lists.samples.total, place, number) }, [
    element("span", { className: "head" }, [verdict(row), ` ${row.text}`]),
    element("span", { className: "faint", textContent: `${row.id}${row.sample ? `, sample ${row.sample}` : ""} \u00b7 answer ${said(row)} \u00b7 gold ${row.gold}${row.truncated ? " \u00b7 truncated" : ""}` }),
  ]);
  return element("div", {}, [button]);
}

const VIEWS = { overview: showOverview, curves: showCurves, steps: showSteps, problems: showProblems, problem: showProblem, evaluations: showEvaluations };

function show() {
  say("");
  const name = asked.get("view") in VIEWS ? asked.get("view") : "overview";
  for (const view of Object.keys(VIEWS)) at(view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.hash === `#view=${name === "problem" ? "problems" : name}`);
  if (known.generation) Promise.resolve(VIEWS[name]()).catch((error) => say(error.message));
}

function follow() {
  asked = new URLSearchParams(location.hash.slice(1));
  show();
}

at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = dark === "dark" ? "light" : "dark";
});
for (const [id, then] of [["names", showCurves], ["words", showProblems]]) at(id).addEventListener("input", then);
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
at("newest").addEventListener("change", () => (location.hash = at("newest").checked ? "#view=steps" : stepLink(ordered[ordered.length - 1])));
addEventListener("hashchange", follow);
Transcripts.begin();
follow();
poll();
