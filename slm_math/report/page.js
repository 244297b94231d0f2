"use strict";
// The browser of transcripts. The page's own words are set as text; a transcript's HTML was made and escaped in Python.
const data = JSON.parse(document.getElementById("transcripts-data").textContent);
const PAGE = 100;
const COLORS = data.colors;
const at = (id) => document.getElementById(id);
const state = { run: "", tag: "", filter: new Set(), q: "", raw: false, page: 0, open: "" };
const chunks = new Map();
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
  state.raw = given.get("raw") === "1";
  state.page = Math.max(0, (parseInt(given.get("page") ?? "1", 10) || 1) - 1);
  state.open = given.get("open") ?? "";
  const theme = given.get("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

function writeAddress() {
  const given = new URLSearchParams();
  if (state.run) given.set("run", state.run);
  if (state.tag) given.set("tag", state.tag);
  if (state.filter.size) given.set("filter", [...state.filter].join(","));
  if (state.q) given.set("q", state.q);
  if (state.raw) given.set("raw", "1");
  if (state.page) given.set("page", String(state.page + 1));
  if (state.open) given.set("open", state.open);
  const theme = document.documentElement.dataset.theme;
  if (theme) given.set("theme", theme);
  const asked = location.hash.includes("=");
  if (asked || given.size) history.replaceState(null, "", `#${given}`);
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

async function fill(item, place) {
  const inside = item.querySelector(".body");
  if (inside.childNodes.length) return;
  inside.innerHTML = await body(place);
  for (const image of inside.querySelectorAll("img[data-image]")) image.src = `data:image/jpeg;base64,${data.images[image.dataset.image]}`;
}

function row(place) {
  const entry = data.entries[place];
  const right = entry.flags.includes("right");
  const shownFlags = entry.flags.filter((name) => name !== "right" && name !== "wrong").map((name) => data.flags[name]);
  const sample = entry.sample ? `, sample ${entry.sample + 1}` : "";
  const dot = element("span", { className: "dot" });
  dot.style.background = COLORS[entry.run];
  const mark = element("span", { className: right ? "right" : "wrong", textContent: right ? "\u2713" : "\u2717" });
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", right ? "right" : "wrong");
  const said = entry.answer === null ? "no answer" : entry.answer;
  const answer = element("span", { className: "said", textContent: right ? said : `${said}  (gold ${entry.gold})` });
  const words = [data.runs[entry.run], entry.id + sample, ...Object.entries(entry.tags).map(([k, v]) => `${k}: ${v}`), ...shownFlags];
  const meta = element("span", { className: "meta" }, [dot, words.join(" \u00b7 ")]);
  const head = element("span", { className: "head", textContent: entry.problem });
  const item = element("details", { className: "item" }, [
    element("summary", {}, [mark, head, answer, meta]),
    element("div", { className: "body" }),
  ]);
  item.addEventListener("toggle", async () => {
    if (item.open) {
      await fill(item, place);
      state.open = String(place);
    } else if (state.open === String(place)) state.open = "";
    writeAddress();
  });
  if (state.open === String(place)) item.open = true;
  return item;
}

let drawn = 0;
async function show() {
  const turn = ++drawn;
  if (state.q && texts === null) {
    at("count").textContent = "reading all transcripts \u2026";
    await searchable();
    if (turn !== drawn) return;
  }
  const found = [...state.filter].reduce(flagged, matching());
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const opened = found.indexOf(Number(state.open));
  if (state.open && opened >= 0) state.page = Math.floor(opened / PAGE);
  state.page = Math.min(state.page, pages - 1);
  at("list").replaceChildren(...found.slice(state.page * PAGE, (state.page + 1) * PAGE).map(row));
  at("count").textContent = `${found.length} of ${data.entries.length} transcripts`;
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
  writeAddress();
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
  at("raw").addEventListener("change", () => change(() => (state.raw = at("raw").checked), true));
  let wait = 0;
  at("query").addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(() => change(() => (state.q = at("query").value.trim())), 200);
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

function change(how, stay = false) {
  how();
  if (!stay) [state.page, state.open] = [0, ""];
  show();
}

function follow() {
  readAddress();
  at("run").value = state.run;
  at("tag").value = state.tag;
  [state.run, state.tag] = [at("run").value, at("tag").value]; // an address may name what is not here
  at("query").value = state.q;
  at("raw").checked = state.raw;
  show();
}

controls();
follow();
addEventListener("hashchange", () => location.hash.includes("=") && follow());
