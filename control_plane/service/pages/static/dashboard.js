// Keeps the parts of a page that say `data-live` as they are on the server; without it, a page is as of when it loaded.
"use strict";
(() => {
  const sign = document.getElementById("live");
  if (!sign || !sign.dataset.stream) return;
  const every = 30_000; // however quiet the stream is
  let busy = false, again = false;

  const say = (text) => { if (sign.textContent !== text) sign.textContent = text; };
  const parts = () => [...document.querySelectorAll("[data-live]")];

  // What has the focus inside a part, so that its successor can have it.
  const nameOf = (element) => element.id ? `#${CSS.escape(element.id)}`
    : element.getAttribute("href") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]`
    : element.getAttribute("aria-label") ? `[aria-label="${CSS.escape(element.getAttribute("aria-label"))}"]` : null;

  const replace = (old, fresh) => {
    if (!fresh || old.innerHTML === fresh.innerHTML) return;
    const focused = old.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    const opened = [...old.querySelectorAll("details")].map((each) => each.open);
    fresh.querySelectorAll("details").forEach((each, number) => { each.open = opened[number] || false; });
    old.replaceChildren(...fresh.childNodes);
    if (focused) old.querySelector(focused)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Penstock-Part": "1" } });
      if (answer.redirected) { stream.close(); say("Signed out: load the page again"); return; }
      if (answer.ok) {
        const there = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of parts()) replace(part, there.getElementById(part.id));
      }
    } catch { /* The stream says so, and comes back. */ } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 250); }
    }
  };

  const stream = new EventSource(sign.dataset.stream);
  stream.addEventListener("hello", () => say("Live"));
  stream.addEventListener("changed", (event) => {
    say("Live");
    const topics = JSON.parse(event.data).topics;
    const concerned = (part) => part.dataset.live.split(" ").some((topic) => topics.includes(topic));
    if (parts().some(concerned)) refresh();
  });
  stream.addEventListener("error", () => say(stream.readyState === EventSource.CLOSED
    ? "Not live: load the page again" : "Not live: connecting again"));
  setInterval(() => { if (!document.hidden) refresh(); }, every);
  window.addEventListener("pagehide", () => stream.close());
})();
