"use strict";

const KEYS = {1: "left", ArrowLeft: "left", 2: "tie", ArrowDown: "tie", 3: "right", ArrowRight: "right"};
const token = document.querySelector("meta[name=token]").content;
const byId = (id) => document.getElementById(id);
let words = {}, shown = null, sending = false;

function word(key, values = {}) {
  const text = words[byId("language").value][key];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function translate() {
  document.documentElement.lang = byId("language").value;
  document.title = word("title");
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  if (shown) show(shown);
}

async function ask(path, body) {
  const post = {method: "POST", headers: {"X-Token": token, "Content-Type": "application/json"}, body: JSON.stringify(body)};
  const response = await fetch(path, body ? post : {});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// fetch throws a TypeError where nobody answers.
const reason = (error) => (error instanceof TypeError ? word("away") : error.message + ".");

function show(state) {
  shown = state;
  const open = "id" in state;
  byId("who").hidden = true;
  byId("pair").hidden = byId("choices").hidden = !open;
  byId("finished").hidden = open;
  byId("progress").textContent = word("progress", state);
  byId("finished").textContent = word("finished", state);
  if (!open) return;
  byId("left").textContent = state.left;
  byId("right").textContent = state.right;
  byId("question").replaceChildren(...state.messages.map((message) => said(message, state.messages.length > 1)));
}

function said(message, named) {
  const paragraph = document.createElement("p");
  if (named) {
    const role = document.createElement("b");
    role.textContent = word(message.role);
    paragraph.append(role);
  }
  paragraph.append(message.content);
  return paragraph;
}

function lock(on) {
  sending = on;
  for (const button of document.querySelectorAll("#choices button")) button.disabled = on;
}

async function vote(choice) {
  if (sending || !shown || !("id" in shown)) return;
  lock(true);
  byId("status").textContent = word("saving");
  try {
    show(await ask("/vote", {voter: shown.voter, id: shown.id, choice}));
    byId("status").textContent = word("saved");
    window.scrollTo(0, 0);
  } catch (error) {
    byId("status").textContent = word("failed", {why: reason(error)});
  }
  lock(false);
}

async function start(event) {
  event.preventDefault();
  try {
    show(await ask("/next?voter=" + encodeURIComponent(byId("voter").value)));
    sessionStorage.voter = byId("voter").value;
    document.activeElement.blur();
  } catch (error) {
    byId("finished").hidden = false;
    byId("finished").textContent = reason(error);
  }
}

byId("who").addEventListener("submit", start);
byId("language").addEventListener("change", () => {
  translate();
  document.activeElement.blur(); // so that the keys vote again
});
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => vote(button.dataset.choice));
}
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key in KEYS) {
    event.preventDefault();
    vote(KEYS[event.key]);
  }
});

ask("/words.json").then((found) => {
  words = found;
  byId("language").value = navigator.language.split("-")[0] in words ? navigator.language.split("-")[0] : "en";
  byId("voter").value = sessionStorage.voter || "";
  translate();
});
