// Lists of which only what is seen is there, the groups of a step, and transcripts.

async function ask(address, values = {}) {
  const answer = await fetch(`${address}?${new URLSearchParams(values)}`);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Rows of one height. `rows(from, count)` gives them, now or as a promise; `made(row, number)` makes an element of one.
class List {
  constructor(place, height, rows, made) {
    Object.assign(this, { place, height, rows, made, total: 0, blocks: new Map(), age: 0 });
    this.inside = element("div", { className: "inside" });
    place.replaceChildren(this.inside);
    place.addEventListener("scroll", () => this.show());
    new ResizeObserver(() => this.show()).observe(place);
  }

  // how many rows there are; `changed` forgets those that are known
  resize(total, changed = false) {
    if (changed) {
      this.blocks.clear();
      this.age += 1;
    }
    this.total = total;
    this.inside.style.height = `${total * this.height}px`;
    this.show();
  }

  block(number) {
    if (!this.blocks.has(number)) {
      const [age, found] = [this.age, this.rows(number * List.BLOCK, List.BLOCK)];
      this.blocks.set(number, Array.isArray(found) ? found : null);
      if (!Array.isArray(found))
        found.then((rows) => {
          if (age !== this.age) return;
          this.blocks.set(number, rows);
          this.show();
        }).catch(() => age === this.age && this.blocks.delete(number));
    }
    return this.blocks.get(number);
  }

  show() {
    if (!this.place.clientHeight) return;
    const first = Math.max(0, Math.floor(this.place.scrollTop / this.height) - 5);
    const last = Math.min(this.total, Math.ceil((this.place.scrollTop + this.place.clientHeight) / this.height) + 5);
    const shown = [];
    for (let number = first; number < last; number++) {
      const row = this.block(Math.floor(number / List.BLOCK))?.[number % List.BLOCK];
      const item = row ? this.made(row, number) : element("div", { textContent: "\u2026" });
      item.classList.add("line");
      item.setAttribute("role", "listitem");
      item.setAttribute("aria-posinset", number + 1);
      item.setAttribute("aria-setsize", this.total);
      item.style.transform = `translateY(${number * this.height}px)`;
      item.style.height = `${this.height}px`;
      shown.push(item);
    }
    this.inside.replaceChildren(...shown);
  }

  reveal(number) {
    const [top, bottom] = [this.place.scrollTop, this.place.scrollTop + this.place.clientHeight];
    if (number * this.height < top || (number + 1) * this.height > bottom) this.place.scrollTop = (number - 2) * this.height;
  }
}
List.BLOCK = 100;

function verdict(one) {
  const mark = element("span", { className: one.correct ? "right" : "wrong", textContent: one.correct ? "\u2713" : "\u2717" });
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", one.correct ? "right" : "wrong");
  return mark;
}

function said(one) {
  if (one.error !== null) return `broken: ${one.error}`;
  return one.answer === null ? "no answer" : one.answer;
}

// a number over a bar: from the left for what is never negative, else from the middle
function bar(value, largest, signed) {
  const share = value === null || !largest ? 0 : Math.min(1, Math.abs(value) / largest);
  const filled = element("span", { className: `fill ${value < 0 ? "minus" : "plus"}${signed ? " signed" : ""}` });
  filled.style.width = `${(signed ? 50 : 100) * share}%`;
  return element("td", { className: "measure" }, [filled, element("span", { textContent: value === null ? "not scored" : number(value) })]);
}

// the samples of a problem in one step, side by side
function card(group, { heading, link, sizes, task = group.text }) {
  const roles = Object.keys(group.samples[0]?.rewards ?? {});
  const of = (role, name) => (roles.length > 1 ? `${name}, ${role}` : name);
  const heads = ["sample", "", "answer", ...roles.flatMap((role) => [of(role, "reward"), of(role, "advantage")]), "tokens"];
  const rows = group.samples.map((one, place) => {
    const open = () => Transcripts.open(group.samples.length, (each) => ({ epoch: group.epoch, batch: group.batch, group: group.group, number: each }), place);
    const button = element("button", { type: "button", className: "plain", textContent: String(one.sample), title: "transcript", onclick: open });
    button.setAttribute("aria-label", `transcript of sample ${one.sample}`);
    const cells = roles.flatMap((role) => [bar(one.rewards[role] ?? null, sizes.reward, sizes.negative), bar(one.advantages[role] ?? null, sizes.advantage, true)]);
    const tokens = element("td", { textContent: number(one.tokens) + (one.truncated ? " (truncated)" : "") });
    const row = element("tr", {}, [element("td", {}, [button]), element("td", {}, [verdict(one)]), element("td", { className: "said", textContent: said(one), title: said(one) }), ...cells, tokens]);
    row.addEventListener("click", (event) => event.target.closest("button") || open());
    return row;
  });
  const right = group.samples.filter((one) => one.correct).length;
  const means = Object.entries(group.rewards).map(([role, mean]) => `${of(role, "reward")} ${number(mean)}`);
  const facts = [`gold ${group.gold}`, `${right} of ${group.samples.length} right`, ...means].join(" \u00b7 ");
  return element("article", { className: "group" }, [
    element("h3", {}, [element("a", { href: link, textContent: heading })]),
    task ? element("p", { className: "task", textContent: task }) : null,
    element("p", { className: "faint", textContent: facts }),
    element("div", { className: "scroll" }, [
      element("table", {}, [element("thead", {}, [element("tr", {}, heads.map((text) => element("th", { scope: "col", textContent: text })))]), element("tbody", {}, rows)]),
    ]),
  ]);
}

// by how much bars are divided: the largest reward and advantage of some groups
function sizesOf(groups) {
  const all = (name) => groups.flatMap((group) => group.samples.flatMap((one) => Object.values(one[name]))).filter((value) => value !== null);
  const rewards = all("rewards");
  return { reward: Math.max(1e-9, ...rewards.map(Math.abs)), negative: rewards.some((value) => value < 0), advantage: Math.max(1e-9, ...all("advantages").map(Math.abs)) };
}

const Transcripts = {
  count: 0,
  number: 0,
  turn: 0,

  // `place` says what to ask for one of so many transcripts, now or as a promise
  open(count, place, number) {
    Object.assign(this, { count, place });
    this.show(number);
    if (!at("transcript").open) at("transcript").showModal();
  },

  async show(number) {
    const turn = ++this.turn;
    this.number = number;
    at("transcript-before").disabled = number <= 0;
    at("transcript-after").disabled = number >= this.count - 1;
    try {
      const found = await ask("/transcript", await this.place(number));
      if (turn !== this.turn) return;
      at("transcript-title").textContent = found.title;
      at("transcript-body").innerHTML = found.html; // made and escaped in Python
      for (const image of at("transcript-body").querySelectorAll("img[data-image]")) image.src = `data:image/jpeg;base64,${found.images[image.dataset.image]}`;
    } catch (error) {
      at("transcript-body").replaceChildren(element("p", { textContent: `This transcript is not there: ${error.message}` }));
    }
    at("transcript").scrollTop = 0;
  },

  begin() {
    at("close").addEventListener("click", () => at("transcript").close());
    at("raw").addEventListener("change", () => document.body.classList.toggle("as-written", at("raw").checked));
    at("transcript-before").addEventListener("click", () => this.show(this.number - 1));
    at("transcript-after").addEventListener("click", () => this.show(this.number + 1));
    at("transcript").addEventListener("click", (event) => event.target === at("transcript") && at("transcript").close());
  },
};
