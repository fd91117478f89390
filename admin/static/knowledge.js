// A knowledge base's page: uploads with progress, drag and drop, and the documents' progress while they are read.
const form = document.getElementById("upload");
const drop = form.querySelector(".drop");
const picker = form.querySelector("input[type=file]");
const list = form.querySelector(".uploads");
const table = document.getElementById("documents");

form.querySelector(".form-foot").hidden = true; // files go as soon as they are chosen

function send(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = file.name;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  item.append(name, bar);
  list.append(item);
  return new Promise((resolve) => {
    const fail = (words) => {
      const error = document.createElement("span");
      error.className = "error";
      error.textContent = words;
      bar.replaceWith(error);
      resolve(false);
    };
    if (file.size > Number(form.dataset.limit)) return fail(form.dataset.tooLarge);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", form.dataset.token);
    request.upload.addEventListener("progress", (event) => { bar.value = event.loaded / event.total; });
    request.addEventListener("error", () => fail(form.dataset.failed));
    request.addEventListener("load", () => {
      bar.value = 1;
      if (request.status < 300) return resolve(true);
      let words = form.dataset.failed;
      try { words = JSON.parse(request.responseText).error.message; } catch { /* a proxy's own page */ }
      fail(words);
    });
    const data = new FormData();
    data.append("files", file, file.name);
    request.send(data);
  });
}

async function sendAll(files) {
  list.replaceChildren();
  let good = files.length > 0;
  for (const file of files) good = await send(file) && good;
  picker.value = "";
  if (good) location.assign(location.pathname);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (picker.files.length) sendAll([...picker.files]);
  else picker.click();
});
picker.addEventListener("change", () => { if (picker.files.length) sendAll([...picker.files]); });
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  sendAll([...event.dataTransfer.files]);
});

function show(row, document) {
  const status = row.querySelector("[data-status]");
  if (status.dataset.status !== document.status) {
    status.dataset.status = document.status;
    status.firstElementChild.textContent = document.words;
    status.firstElementChild.className = `badge ${document.kind}`;
  }
  const bar = row.querySelector("[data-bar]");
  bar.hidden = document.finished;
  if (document.total) { bar.max = document.total; bar.value = document.done; } else bar.removeAttribute("value");
  row.querySelector("[data-chunks]").textContent = document.total || "–";
  const error = row.querySelector("[data-error]");
  error.hidden = !document.error;
  error.textContent = document.error;
}

async function poll() {
  const waiting = table.querySelector('[data-status]:not([data-status="ready"], [data-status="failed"])');
  if (!waiting) return;
  try {
    const answer = await fetch(table.dataset.progress, { headers: { Accept: "application/json" } });
    if (answer.status === 401) return location.reload();
    for (const document of (await answer.json()).documents) {
      const row = table.querySelector(`[data-document="${CSS.escape(document.id)}"]`);
      if (row) show(row, document);
    }
  } catch { /* the next round tries again */ }
  setTimeout(poll, document.hidden ? 5000 : 1000);
}
poll();
