"use strict";

const SAVE_AFTER = 1200; // milliseconds without typing
const FLAG_AFTER = 350;
const KEYS = {
  KeyA: "accept", KeyD: "drop", KeyU: "undo", KeyP: "previous", KeyK: "previous", KeyN: "next", KeyJ: "next",
  KeyF: "flag", KeyE: "edit", KeyR: "entity", KeyT: "topic", Slash: "search",
};
const token = document.querySelector("meta[name=token]").content;
const $ = (id) => document.getElementById(id);
const make = (tag, name, text) => Object.assign(document.createElement(tag), { className: name || "", textContent: text || "" });

let example = null; // as the server last told it
let words = {};
let here = -1; // which flag the reviewer stands on
let composing = false;
let dirty = false;
let saveTimer = 0;
let flagTimer = 0;
let queue = Promise.resolve(); // posts go out one after the other

const word = (text) => words[text] || text;
const reviewer = () => localStorage.getItem("reviewer") || "";
const editors = () => [...document.querySelectorAll(".editor textarea")];
const texts = () => editors().map((editor) => editor.value);

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Token": token },
    body: JSON.stringify({ reviewer: reviewer(), ...body }),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error || answer.statusText);
  return told;
}

/** Do things in the order they were asked for; an error is shown and ends only the one that met it. What nobody asked for
 *  is `quiet`: it leaves the message that stands there. */
function then(work, quiet = false) {
  document.body.dataset.busy = "1";
  const run = async () => {
    try {
      if (!quiet) $("message").textContent = "";
      await work();
    } catch (error) {
      $("message").textContent = error.message;
    }
  };
  const mine = queue.then(run).then(() => { if (queue === mine) delete document.body.dataset.busy; });
  queue = mine;
  return mine;
}

// ---- drawing

function show(told) {
  example = told.example;
  dirty = false;
  here = -1;
  clearTimeout(saveTimer);
  const main = $("example");
  main.replaceChildren();
  if (!example) {
    main.append(make("p", "", word("Nothing is left here.")));
  } else {
    localStorage.setItem("example", example.id);
    example.turns.forEach((turn, number) => main.append(drawTurn(turn, number)));
    drawFlags(example.flags);
  }
  showProgress(told.progress);
  window.scrollTo(0, 0);
  main.focus();
}

function showProgress(progress) {
  $("place").textContent = example ? `${example.place} / ${progress.total}` : "";
  $("place").dataset.id = example ? example.id : "";
  $("place").dataset.status = example ? example.status : "";
  $("bar").max = progress.total;
  $("bar").value = progress.total - progress.open;
  const speed = progress.an_hour ? ` · ${progress.an_hour} ${word("an hour")}` : "";
  const status = example && example.status !== "open" ? ` · ${word(example.status)}` : "";
  $("counts").textContent = `${progress.accepted} ${word("accepted")}, ${progress.dropped} ${word("dropped")}, ` +
    `${progress.open} ${word("open")}${speed}${status}`;
  $("name").textContent = reviewer();
  const chosen = $("rule").value;
  [...$("rule").options].slice(2).forEach((option) => option.remove());
  Object.entries(progress.rules).forEach(([rule, count]) => $("rule").append(new Option(`${rule} (${count})`, rule)));
  $("rule").value = chosen;
  if ($("rule").selectedIndex < 0) $("rule").value = "";
}

function drawTurn(turn, number) {
  const section = make("section");
  section.dataset.turn = number;
  const title = make("h3", "", word(turn.role === "user" ? "question" : "answer"));
  if (turn.rewrite) title.append(" ", make("span", "rewrite", word("to be rewritten: the question has changed")));
  const editor = make("div", "editor");
  const area = make("textarea");
  area.value = turn.text;
  area.spellcheck = false;
  area.setAttribute("aria-label", title.textContent);
  editor.append(make("div", "backdrop"), area);
  const target = make("div");
  target.append(editor, make("ul", "flags"));
  section.append(title, make("div", "source", turn.source), target, make("div", "diff"));
  area.addEventListener("compositionstart", () => { composing = true; });
  area.addEventListener("compositionend", () => { composing = false; changed(section); });
  area.addEventListener("input", () => changed(section));
  area.addEventListener("blur", () => { if (dirty) save(); });
  drawDiff(section, turn);
  return section;
}

function changed(section) {
  dirty = true;
  drawMarks(section, []); // grows with the text; the marks' places are no longer known
  $("saved").textContent = "";
  if (composing) return;
  drawDiff(section, example.turns[section.dataset.turn]);
  clearTimeout(saveTimer);
  clearTimeout(flagTimer);
  saveTimer = setTimeout(save, SAVE_AFTER);
  flagTimer = setTimeout(() => then(async () => {
    const asked = { id: example.id, texts: texts() };
    if (asked.texts.every((text) => text.trim())) drawFlagsIfCurrent(asked, await post("/flags", asked));
  }, true), FLAG_AFTER);
}

function drawFlagsIfCurrent(asked, flags) {
  if (example && example.id === asked.id && JSON.stringify(texts()) === JSON.stringify(asked.texts)) drawFlags(flags);
}

function drawFlags(flags) {
  example.flags = flags;
  document.querySelectorAll("section").forEach((section) => {
    const mine = flags.filter((flag) => flag.turn === Number(section.dataset.turn));
    drawMarks(section, mine);
    section.querySelector(".flags").replaceChildren(...mine.map((flag) => {
      const line = make("li", `flag ${flag.severity}`, flag.reason);
      line.dataset.rule = flag.rule;
      line.title = flag.rule;
      line.addEventListener("click", () => stepTo(flags.indexOf(flag)));
      return line;
    }));
  });
}

function drawMarks(section, flags) {
  const backdrop = section.querySelector(".backdrop");
  const points = Array.from(section.querySelector("textarea").value); // places count code points
  backdrop.replaceChildren();
  let last = 0;
  flags.filter((flag) => flag.start !== null).forEach((flag) => {
    if (flag.start < last) return;
    const mark = make("mark", flag.severity, points.slice(flag.start, flag.end).join(""));
    mark.dataset.flag = example.flags.indexOf(flag);
    backdrop.append(points.slice(last, flag.start).join(""), mark);
    last = flag.end;
  });
  backdrop.append(`${points.slice(last).join("")}\n`);
}

function drawDiff(section, turn) {
  const diff = section.querySelector(".diff");
  const now = section.querySelector("textarea").value;
  diff.replaceChildren();
  if (now === turn.machine) return;
  const tags = { "=": "span", "-": "del", "+": "ins" };
  diff.append(...wordDiff(turn.machine, now).map(([kind, text]) => make(tags[kind], "", text)));
}

// ---- acting

/** Post about an example in the version that stands here by then: what was asked before may have changed it. */
const postOf = (of, path, body) => post(path, { id: of.id, version: of.version, ...body });

function save() {
  clearTimeout(saveTimer);
  if (!example || !dirty || composing) return;
  const of = example;
  const typed = texts();
  if (typed.every((text) => text.trim())) { dirty = false; then(() => keep(of, typed)); }
}

async function keep(of, typed) {
  try {
    const told = await postOf(of, "/decide", { texts: typed, action: "edit" });
    $("saved").textContent = word("saved");
    of.version = told.example.version;
    if (example !== of) return;
    told.example.turns.forEach((turn, number) => {
      of.turns[number].rewrite = turn.rewrite;
      const note = document.querySelector(`section[data-turn="${number}"] .rewrite`);
      if (note && !turn.rewrite) note.remove();
    });
    drawFlagsIfCurrent({ id: of.id, texts: typed }, told.example.flags);
    showProgress(told.progress);
  } catch (error) {
    if (example === of) dirty = true;
    throw error;
  }
}

/** Go elsewhere once what was typed is kept; where it cannot be, the example stays, and the message. */
function leave(go) {
  then(async () => {
    clearTimeout(saveTimer);
    if (example && dirty) await keep(example, texts());
    await go();
  });
}

function decide(action) {
  if (!example) return;
  const of = example;
  const asked = { texts: texts(), action, rule: $("rule").value };
  then(async () => {
    const told = await postOf(of, "/decide", asked);
    of.version = told.version;
    show(told);
    $("saved").textContent = word("saved");
  });
}

function move(backwards) {
  const after = example ? example.id : "";
  leave(async () => {
    const told = await post("/next", { after, rule: $("rule").value, backwards });
    if (told.example || !backwards) show(told);
  });
}

function open(id) {
  leave(async () => show(await post("/open", { id })));
}

function undo() {
  leave(async () => show(await post("/undo", {})));
}

function stepTo(number) {
  if (!example || !example.flags.length) return;
  here = (number + example.flags.length) % example.flags.length;
  const flag = example.flags[here];
  document.querySelectorAll(".here").forEach((element) => element.classList.remove("here"));
  const section = document.querySelector(`section[data-turn="${flag.turn}"]`);
  const mark = section.querySelector(`mark[data-flag="${here}"]`) || section;
  const line = [...section.querySelectorAll(".flag")].find((element) => element.textContent === flag.reason);
  [mark, line].forEach((element) => element && element !== section && element.classList.add("here"));
  mark.scrollIntoView({ block: "center" });
}

function edit() {
  const flag = example && example.flags[here];
  const area = editors()[flag ? flag.turn : editors().length - 1];
  if (!area) return;
  area.focus();
  if (flag && flag.start !== null) {
    const points = Array.from(area.value);
    const before = points.slice(0, flag.start).join("").length;
    area.setSelectionRange(before, before + points.slice(flag.start, flag.end).join("").length);
  }
}

/** Open a dialog and act once it is closed by its own button. */
function ask(id, act) {
  const dialog = $(id);
  dialog.returnValue = "";
  dialog.onclose = () => { if (dialog.returnValue === "ok") act(); };
  dialog.showModal();
}

function askEntity() {
  if (!example) return;
  const flag = example.flags[here];
  const chosen = flag && flag.start !== null ? Array.from(texts()[flag.turn]).slice(flag.start, flag.end).join("") : "";
  $("old").value = window.getSelection().toString() || chosen;
  $("new").value = "";
  ask("ask-entity", () => {
    const of = example;
    const asked = { texts: texts(), old: $("old").value, new: $("new").value };
    then(async () => {
      const told = await postOf(of, "/entity", asked);
      show(told);
      $("saved").textContent = `${word("saved")} (${told.replaced})`;
    });
  });
  ($("old").value ? $("new") : $("old")).focus();
}

function askTopic() {
  if (!example) return;
  const turn = example.turns.findIndex((found) => found.role === "user");
  $("question").value = texts()[turn];
  ask("ask-topic", () => {
    const of = example;
    const asked = { texts: texts(), turn, question: $("question").value };
    then(async () => {
      show(await postOf(of, "/topic", asked));
      $("saved").textContent = word("saved");
    });
  });
}

function askSearch() {
  ask("ask-search", () => {});
  $("wanted").oninput = async () => {
    const wanted = $("wanted").value;
    const hits = await (await fetch(`/search?q=${encodeURIComponent(wanted)}`)).json();
    if (wanted !== $("wanted").value) return; // an answer that was overtaken
    $("hits").replaceChildren(...hits.map((hit) => {
      const line = make("li", "", `${hit.id}: ${hit.text}`);
      line.tabIndex = 0;
      const go = () => { $("ask-search").close(); open(hit.id); };
      line.addEventListener("click", go);
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); go(); } });
      return line;
    }));
  };
  $("wanted").onkeydown = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    const first = $("hits").firstChild;
    if (first) first.click();
  };
}

function askName() {
  $("reviewer").value = reviewer();
  ask("ask-name", () => {
    localStorage.setItem("reviewer", $("reviewer").value.trim());
    begin();
  });
}

const ACTIONS = {
  accept: () => decide("accept"), drop: () => decide("drop"), undo, next: () => move(false), previous: () => move(true),
  flag: () => stepTo(here + 1), edit, entity: askEntity, topic: askTopic, search: askSearch, help: () => ask("ask-help", () => {}),
};

document.addEventListener("keydown", (event) => {
  // While a syllable is being put together its keys belong to the input method.
  if (event.isComposing || event.keyCode === 229 || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("textarea, input, select");
  if (typing) {
    if (event.code === "Escape") { typing.blur(); event.preventDefault(); }
    if (event.code === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); decide("accept"); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const action = event.key === "?" ? "help" : event.code === "KeyF" && event.shiftKey ? "flagged" : KEYS[event.code];
  if (!action) return;
  event.preventDefault();
  if (action === "flagged") { $("rule").value = "any"; move(false); } else ACTIONS[action]();
});

document.querySelectorAll("nav button").forEach((button) => {
  button.addEventListener("click", () => ACTIONS[button.dataset.key]());
});
$("name").addEventListener("click", askName);
$("rule").addEventListener("change", () => { $("rule").blur(); move(false); });
window.addEventListener("beforeunload", (event) => { if (dirty) { save(); event.preventDefault(); } });

async function begin() {
  await then(async () => {
    const last = localStorage.getItem("example");
    try {
      if (!last) throw new Error("");
      show(await post("/open", { id: last }));
    } catch {
      show(await post("/next", {}));
    }
  });
}

(async () => {
  words = await (await fetch("/labels")).json();
  document.querySelectorAll("[data-word]").forEach((element) => { element.textContent = word(element.dataset.word); });
  document.querySelectorAll("nav button").forEach((button) => {
    $("keys").append(make("dt", "", button.querySelector("kbd").textContent), make("dd", "", button.querySelector("span").textContent));
  });
  $("keys").append(make("dt", "", "Shift+F"), make("dd", "", word("next example with a flag")));
  if (reviewer()) begin(); else askName();
})();
