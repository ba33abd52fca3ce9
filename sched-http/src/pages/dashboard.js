"use strict";
const live = document.getElementById("live");
const message = document.getElementById("message");
const auto = document.getElementById("refresh");
const base = document.body.dataset.base;
let waiting = null;

function countdown() {
  for (const cell of document.querySelectorAll("[data-until]")) {
    let left = Math.max(0, Math.floor((new Date(cell.dataset.until) - Date.now()) / 1000));
    const parts = [];
    for (const [unit, seconds] of [["d", 86400], ["h", 3600], ["m", 60]]) {
      if (left >= seconds) { parts.push(Math.floor(left / seconds) + unit); left %= seconds; }
    }
    if (parts.length < 2) parts.push(left + "s");
    cell.textContent = parts.slice(0, 2).join(" ");
  }
}

async function refresh() {
  waiting = null;
  const answer = await fetch(base + "/parts/live").catch(() => null);
  if (answer && answer.ok) {
    live.innerHTML = await answer.text();
    countdown();
  } else {
    message.textContent = answer && answer.status === 401 ? "Logged out: reload the page." : "The scheduler does not answer.";
  }
}

function soon(delay) {
  if (auto.checked && waiting === null) waiting = setTimeout(refresh, delay);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-post]");
  if (!button) return;
  button.disabled = true;
  const answer = await fetch(button.dataset.post, { method: "POST" }).catch(() => null);
  const body = answer ? await answer.json().catch(() => ({})) : {};
  message.textContent = answer && answer.ok ? "Done." : (body.error ? body.error.message : "The scheduler does not answer.");
  button.disabled = false;
  refresh();
});

const events = new EventSource(base + "/api/v1/events");
for (const name of ["run_queued", "run_started", "run_finished", "run_retry", "tick", "schedule_changed", "dispatch_changed", "fire_skipped", "fires_missed"]) {
  events.addEventListener(name, () => soon(200));
}
setInterval(() => soon(0), 10000);
setInterval(countdown, 1000);
countdown();
