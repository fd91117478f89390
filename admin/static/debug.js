// The debug chat: saves the draft where it was changed, asks, shows the answer as it comes, then the turn's trace.
const panel = document.getElementById("debug");
const draft = document.getElementById("draft");
const log = panel.querySelector(".debug-log");
const form = panel.querySelector(".debug-form");
const box = form.querySelector("textarea");
const send = form.querySelector("button");
const say = panel.dataset;
const hello = log.querySelector("[data-hello]");
let chat = crypto.getRandomValues(new Uint32Array(4)).join("-");
let saved = snapshot();
let asking = "";
const stop = panel.querySelector("[data-stop]");

function snapshot() { return new URLSearchParams(new FormData(draft)).toString(); }

function add(parent, tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function down() { log.scrollTop = log.scrollHeight; }

async function post(url, body, headers = {}) {
  const answer = await fetch(url, {
    method: "POST", body, headers: { Accept: "application/json", "X-CSRF-Token": say.token, ...headers },
  });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error ? data.error.message : say.mend);
  return data;
}

async function saveDraft() {
  const now = snapshot();
  if (now === saved) return;
  await post(draft.getAttribute("action"), new FormData(draft)); // a button is called action too
  saved = now;
}

async function ask(text) {
  if (send.disabled) return;
  send.disabled = true;
  const turn = add(log, "div", "turn");
  add(turn, "p", "said in", text);
  const answer = add(turn, "p", "said waiting");
  down();
  try {
    await saveDraft();
    const { turn_id: id } = await post(say.ask, JSON.stringify({ text, chat }), { "Content-Type": "application/json" });
    asking = id;
    stop.hidden = false;
    await listen(id, answer);
    await showTrace(id, turn);
  } catch (error) {
    answer.classList.replace("waiting", "failed");
    answer.classList.add("failed");
    answer.textContent = error.message || say.failed;
  }
  stop.hidden = true;
  send.disabled = false;
  down();
}

function listen(id, answer) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`${say.turns}${id}/events`);
    let text = "";
    let failures = 0;
    const show = (value) => { text = value; answer.classList.remove("waiting"); answer.textContent = text; down(); };
    const on = (name, act) => events.addEventListener(name, (event) => { failures = 0; act(JSON.parse(event.data)); });
    on("delta", (data) => show(text + data.text));
    on("replace", (data) => show(data.text));
    on("done", (data) => show(data.text));
    on("followups", (data) => chips(answer.parentElement, data.questions));
    on("end", () => { events.close(); resolve(); });
    events.addEventListener("error", (event) => {
      if (event.data) {
        const failure = JSON.parse(event.data);
        show(failure.message || say.failed);
        answer.classList.add("failed");
      } else if (++failures > 8 || events.readyState === EventSource.CLOSED) {
        events.close();
        reject(new Error(say.lost));
      }
    });
  });
}

function chips(parent, questions) {
  const row = add(parent, "div", "chips");
  for (const question of questions) {
    const chip = add(row, "button", "chip", question);
    chip.type = "button";
    chip.dataset.say = question;
  }
}

async function showTrace(id, turn) {
  const answer = await fetch(`${say.turns}${id}/trace`);
  if (!answer.ok) return;
  const piece = new DOMParser().parseFromString(await answer.text(), "text/html");
  turn.append(...piece.body.childNodes);
  down();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text || send.disabled) return;
  box.value = "";
  ask(text);
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
log.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-say]");
  if (chip) ask(chip.dataset.say);
});
stop.addEventListener("click", () => { post(`${say.turns}${asking}/stop`, ""); });
panel.querySelector("[data-new]").addEventListener("click", () => {
  chat = crypto.getRandomValues(new Uint32Array(4)).join("-");
  log.replaceChildren(hello);
  box.focus();
});

// On a narrow screen the form and the chat share the place: switching keeps what was typed.
const bench = document.querySelector(".workbench");
for (const link of document.querySelectorAll(".views [data-view]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    bench.dataset.view = link.dataset.view;
    for (const other of document.querySelectorAll(".views a")) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "page");
  });
}
