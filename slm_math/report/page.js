"use strict";
// The browser of transcripts. The page's own words are set as text; a transcript's HTML was made and escaped in Python.
const data = JSON.parse(document.getElementById("transcripts-data").textContent);
const PAGE = 100;
const COLORS = data.colors;
const at = (id) => document.getElementById(id);
const state = { run: "", tag: "", filter: new Set(), q: "", view: "", sort: "", raw: false, page: 0, open: "" };
const SORTS = { "": "in order", right: "fewest right first", apart: "runs furthest apart first", tokens: "most tokens first" };
const chunks = new Map();
const problems = new Map(); // the places of all samples of a problem, in all runs that were asked it
data.entries.forEach(({ run, id }, place) => {
  const key = `${data.sets[run]} ${id}`;
  problems.set(key, [...(problems.get(key) ?? []), place]);
});
let texts = null;

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function chunk(number) {
  if (!chunks.has(number)) {
    const bytes = Uint8Array.from(atob(data.chunks[number]), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    chunks.set(number, new Response(stream).json());
  }
  return chunks.get(number);
}

async function body(place) {
  return (await chunk(Math.floor(place / data.chunk)))[place % data.chunk];
}

// what a search looks through: the text of every transcript, without its markup
async function searchable() {
  if (texts === null) {
    const all = (await Promise.all(data.chunks.map((_, number) => chunk(number)))).flat();
    const signs = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&#39;": "'", "&amp;": "&" };
    texts = all.map((html, place) => {
      const text = html.replace(/<[^>]*>/g, "").replace(/&(?:lt|gt|quot|amp|#x27|#39);/g, (sign) => signs[sign]);
      return `${data.entries[place].id} ${text}`.toLowerCase();
    });
  }
  return texts;
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state.run = given.get("run") ?? "";
  state.tag = given.get("tag") ?? "";
  state.filter = new Set((given.get("filter") ?? "").split(",").filter((name) => name in data.flags));
  state.q = given.get("q") ?? "";
  state.view = given.get("view") === "problem" ? "problem" : "";
  state.sort = given.get("sort") in SORTS ? given.get("sort") : "";
  state.raw = given.get("raw") === "1";
  state.page = Math.max(0, (parseInt(given.get("page") ?? "1", 10) || 1) - 1);
  state.open = given.get("open") ?? "";
  const theme = given.get("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

function address(open = state.open) {
  const given = new URLSearchParams();
  if (state.run) given.set("run", state.run);
  if (state.tag) given.set("tag", state.tag);
  if (state.filter.size) given.set("filter", [...state.filter].join(","));
  if (state.q) given.set("q", state.q);
  if (state.view) given.set("view", state.view);
  if (state.sort) given.set("sort", state.sort);
  if (state.raw) given.set("raw", "1");
  if (state.page) given.set("page", String(state.page + 1));
  if (open) given.set("open", open);
  const theme = document.documentElement.dataset.theme;
  if (theme) given.set("theme", theme);
  return String(given);
}

// what somebody chose is a step of the browser's history, so that its back button undoes it
function writeAddress(step = false) {
  const given = address();
  const now = location.hash.slice(1);
  if (given === now || (!given && !now.includes("="))) return;
  if (step) history.pushState(null, "", given ? `#${given}` : location.pathname + location.search);
  else history.replaceState(null, "", `#${given}`);
}

// the places of the entries that hold against everything but the chips
function matching() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return [...data.entries.keys()].filter((place) => {
    const entry = data.entries[place];
    if (state.run && String(entry.run) !== state.run) return false;
    if (state.tag) {
      const [tag, value] = JSON.parse(state.tag);
      if (entry.tags[tag] !== value) return false;
    }
    return words.every((word) => texts[place].includes(word));
  });
}

const flagged = (places, name) => places.filter((place) => data.entries[place].flags.includes(name));
const isRight = (place) => Number(data.entries[place].flags.includes("right"));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// what stands in one line of the list: a sample, or all samples of a problem
function listed(places) {
  if (!state.view) return places.map((place) => [place]);
  const keys = new Set(places.map((place) => `${data.sets[data.entries[place].run]} ${data.entries[place].id}`));
  return [...keys].map((key) => problems.get(key));
}

function byRun(places) {
  const runs = new Map();
  for (const place of places) runs.set(data.entries[place].run, [...(runs.get(data.entries[place].run) ?? []), place]);
  return [...runs];
}

function sorted(items) {
  const measures = {
    right: (places) => mean(places.map(isRight)),
    apart: (places) => {
      const shares = byRun(places).map(([, some]) => mean(some.map(isRight)));
      return Math.min(...shares) - Math.max(...shares);
    },
    tokens: (places) => -mean(places.map((place) => data.entries[place].tokens)),
  };
  if (!state.sort) return items;
  const measured = items.map((places) => [measures[state.sort](places), places]);
  return measured.sort((a, b) => a[0] - b[0]).map(([, places]) => places);
}

function dot(run) {
  const made = element("span", { className: "dot" });
  made.style.background = COLORS[run];
  return made;
}

function mark(place) {
  const right = isRight(place);
  const made = element("span", { className: right ? "right" : "wrong", textContent: right ? "\u2713" : "\u2717" });
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", right ? "right" : "wrong");
  return made;
}

function said(place) {
  const entry = data.entries[place];
  const answer = entry.answer === null ? "no answer" : entry.answer;
  return element("span", { className: "said", textContent: isRight(place) ? answer : `${answer}  (gold ${entry.gold})` });
}

async function column(place) {
  const { run, sample } = data.entries[place];
  const name = `${data.runs[run]}${sample ? `, sample ${sample + 1}` : ""}`;
  const inside = element("div", { className: "inside" });
  inside.innerHTML = await body(place);
  return element("div", {}, [element("h4", {}, [mark(place), dot(run), name]), said(place), inside]);
}

async function fill(item, places) {
  const inside = item.querySelector(".body");
  if (inside.childNodes.length) return;
  if (state.view) {
    const columns = await Promise.all(places.map(column));
    const statements = columns.map((each) => each.querySelector(".problem"));
    statements.slice(1).forEach((each) => each.remove());
    const side = element("div", { className: "side", tabIndex: 0 }, columns);
    side.setAttribute("role", "region");
    side.setAttribute("aria-label", "samples side by side");
    inside.append(statements[0], side);
  } else inside.innerHTML = await body(places[0]);
  const link = element("a", { href: `#${address(String(places[0]))}`, textContent: "link to this" });
  inside.append(element("p", { className: "faint" }, [link]));
  for (const image of inside.querySelectorAll("img[data-image]")) image.src = `data:image/jpeg;base64,${data.images[image.dataset.image]}`;
}

function row(places) {
  const [place] = places;
  const entry = data.entries[place];
  const tags = Object.entries(entry.tags).map(([k, v]) => `${k}: ${v}`);
  const head = element("span", { className: "head", textContent: entry.problem });
  const shown = [];
  if (state.view) {
    const runs = byRun(places).map(([run, some]) => {
      const count = some.length > 1 ? [`${some.filter(isRight).length} of ${some.length}`] : [mark(some[0])];
      return element("span", { className: "of-run" }, [dot(run), `${data.runs[run]} `, ...count]);
    });
    shown.push(element("span"), head, element("span", { className: "said", textContent: `gold ${entry.gold}` }));
    shown.push(element("span", { className: "meta" }, [...runs, [entry.id, ...tags].join(" \u00b7 ")]));
  } else {
    const flags = entry.flags.filter((name) => name !== "right" && name !== "wrong").map((name) => data.flags[name]);
    const sample = entry.sample ? `, sample ${entry.sample + 1}` : "";
    const words = [data.runs[entry.run], entry.id + sample, ...tags, ...flags].join(" \u00b7 ");
    shown.push(mark(place), head, said(place), element("span", { className: "meta" }, [dot(entry.run), words]));
  }
  const item = element("details", { className: "item" }, [element("summary", {}, shown), element("div", { className: "body" })]);
  item.dataset.place = String(place);
  item.addEventListener("toggle", async () => {
    if (item.open) {
      await fill(item, places);
      state.open = String(place);
    } else if (state.open === String(place)) state.open = "";
    writeAddress(true);
  });
  if (state.open && places.includes(Number(state.open))) {
    state.open = String(place);
    item.open = true;
  }
  return item;
}

// the next item of the list or, by -1, the one before, alone open
async function step(by) {
  const items = [...document.querySelectorAll(".item")];
  const now = items.findIndex((item) => item.dataset.place === state.open);
  const next = now < 0 ? (by > 0 ? 0 : items.length - 1) : now + by;
  if (next < 0 || next >= items.length) {
    const button = at(by > 0 ? "after" : "before");
    if (button.hidden) return;
    state.page += by;
    state.open = "";
    await show();
    return step(by);
  }
  for (const item of items) item.open = item === items[next];
  state.open = items[next].dataset.place;
  items[next].querySelector("summary").focus();
  items[next].scrollIntoView({ block: "nearest" });
}

let drawn = 0;
async function show(step = false) {
  const turn = ++drawn;
  if (state.q && texts === null) {
    at("count").textContent = "reading all transcripts \u2026";
    await searchable();
    if (turn !== drawn) return;
  }
  const found = [...state.filter].reduce(flagged, matching());
  const items = sorted(listed(found));
  const pages = Math.max(1, Math.ceil(items.length / PAGE));
  const opened = items.findIndex((places) => places.includes(Number(state.open)));
  if (state.open && opened >= 0) state.page = Math.floor(opened / PAGE);
  state.page = Math.min(state.page, pages - 1);
  at("list").replaceChildren(...items.slice(state.page * PAGE, (state.page + 1) * PAGE).map(row));
  const counts = `${found.length} of ${data.entries.length} transcripts`;
  at("count").textContent = state.view ? `${counts}, ${items.length} problems` : counts;
  at("page").textContent = pages > 1 ? `page ${state.page + 1} of ${pages}` : "";
  at("before").hidden = state.page === 0;
  at("after").hidden = state.page >= pages - 1;
  document.body.classList.toggle("as-written", state.raw);
  for (const chip of at("chips").children) {
    const name = chip.dataset.name;
    const on = state.filter.has(name);
    const count = flagged(found, name).length;
    chip.setAttribute("aria-pressed", String(on));
    chip.textContent = `${data.flags[name]} ${count}`;
    chip.toggleAttribute("data-none", count === 0 && !on);
  }
  writeAddress(step);
}

function controls() {
  at("run").append(element("option", { value: "", textContent: "all" }));
  data.runs.forEach((name, i) => at("run").append(element("option", { value: String(i), textContent: name })));
  at("tag").append(element("option", { value: "", textContent: "all" }));
  const values = new Map();
  for (const { tags } of data.entries)
    for (const [tag, value] of Object.entries(tags)) values.set(tag, (values.get(tag) ?? new Set()).add(value));
  for (const [tag, found] of values) {
    if (found.size < 2 || found.size > 60) continue;
    const sorted = [...found].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const options = sorted.map((v) => element("option", { value: JSON.stringify([tag, v]), textContent: `${tag}: ${v}` }));
    at("tag").append(...options);
  }
  at("tag").parentElement.hidden = at("tag").options.length < 2;
  for (const name of Object.keys(data.flags)) {
    const chip = element("button", { type: "button" });
    chip.dataset.name = name;
    chip.addEventListener("click", () => change(() => state.filter.delete(name) || state.filter.add(name)));
    at("chips").append(chip);
  }
  at("run").addEventListener("change", () => change(() => (state.run = at("run").value)));
  at("tag").addEventListener("change", () => change(() => (state.tag = at("tag").value)));
  for (const [name, words] of Object.entries(SORTS)) at("sort").append(element("option", { value: name, textContent: words }));
  for (const name of ["view", "sort"]) at(name).addEventListener("change", () => change(() => (state[name] = at(name).value)));
  at("raw").addEventListener("change", () => change(() => (state.raw = at("raw").checked), true));
  let wait = 0;
  at("query").addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(() => change(() => (state.q = at("query").value.trim()), false, false), 200);
  });
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const [id, by] of [["before", -1], ["after", 1]])
    at(id).addEventListener("click", () => {
      change(() => (state.page += by), true);
      at("transcripts").scrollIntoView();
    });
  at("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = dark === "dark" ? "light" : "dark";
    writeAddress();
  });
  at("filters").hidden = false;
}

function change(how, stay = false, step = true) {
  how();
  if (!stay) [state.page, state.open] = [0, ""];
  show(step);
}

function follow() {
  readAddress();
  at("run").value = state.run;
  at("tag").value = state.tag;
  [state.run, state.tag] = [at("run").value, at("tag").value]; // an address may name what is not here
  at("query").value = state.q;
  at("raw").checked = state.raw;
  at("view").value = state.view;
  at("sort").value = state.sort;
  show();
}

controls();
follow();
addEventListener("hashchange", () => (location.hash.includes("=") || !location.hash) && follow());
addEventListener("keydown", (event) => {
  const by = { j: 1, k: -1 }[event.key];
  const typing = event.target.closest?.("input, select, textarea");
  if (by && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) step(by);
});
