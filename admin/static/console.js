// On every page: copy buttons (data-copy, data-done) and a question before what cannot be undone (data-sure).
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = document.createElement("textarea"); // plain http on another machine has no clipboard
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await copy(button.dataset.copy);
  const before = button.textContent;
  button.textContent = button.dataset.done;
  setTimeout(() => { button.textContent = before; }, 1500);
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.dataset.sure && !window.confirm(button.dataset.sure)) event.preventDefault();
  else if (!event.defaultPrevented && button) setTimeout(() => { button.disabled = true; }); // once is enough
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form button[disabled]")) button.disabled = false;
});
