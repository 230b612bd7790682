// What a page does by itself: takes in new rows while it is open, and copies a command.
// What comes is HTML that the gateway has escaped; the page's policy lets no script of it run.
"use strict";

const RETRY_MILLISECONDS = 3000;

function follow(rows) {
  const totals = document.getElementById("totals");
  const light = document.getElementById("live");
  const pause = document.getElementById("pause");
  const query = new URLSearchParams(rows.dataset.query);
  let cursor = rows.dataset.cursor;
  let source = null;
  let waiting = null;

  const say = (text, state) => {
    light.textContent = text;
    light.dataset.state = state;
  };

  const take = (html) => {
    const template = document.createElement("template");
    template.innerHTML = `<table><tbody>${html}</tbody></table>`;
    const fresh = [...template.content.querySelectorAll("tr")];
    for (const row of fresh) row.classList.add("fresh");
    rows.prepend(...fresh);
    while (rows.children.length > Number(rows.dataset.max)) rows.lastElementChild.remove();
  };

  const open = () => {
    query.set("since", cursor);
    source = new EventSource(`/live?${query}`);
    source.onopen = () => say("live", "on");
    source.onerror = () => {
      say("not connected", "off");
      // The browser tries again by itself, unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) {
        waiting = setTimeout(open, RETRY_MILLISECONDS);
      }
    };
    source.addEventListener("rows", (event) => {
      cursor = event.lastEventId;
      take(event.data);
    });
    source.addEventListener("totals", (event) => {
      cursor = event.lastEventId;
      const unfolded = totals.querySelector("details")?.open;
      totals.innerHTML = event.data;
      if (unfolded) totals.querySelector("details")?.setAttribute("open", "");
    });
    source.addEventListener("restart", () => location.reload());
  };

  const close = () => {
    clearTimeout(waiting);
    source.close();
    say("paused", "off");
  };

  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    if (paused) close();
    else open();
  });
  light.hidden = pause.hidden = false;
  open();
}

function offerCopy(button) {
  const text = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      // Not on plain HTTP from afar, or not allowed: the text is selected instead.
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => (button.textContent = label), 2000);
  });
}

const rows = document.getElementById("rows");
if (rows) follow(rows);
document.querySelectorAll(".copy").forEach(offerCopy);
