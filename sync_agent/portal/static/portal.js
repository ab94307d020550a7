// What the pages gain with a script: they keep themselves current, and say what is happening while files are kept.
// Without it everything works; a page is then current when it is loaded.
"use strict";

(() => {
  const POLL_MS = 4000;
  const BY_ITSELF = { "X-Relais-Live": "1" };
  const body = document.body;
  const strip = document.getElementById("strip");
  const words = document.getElementById("strip-words");
  const fresh = document.getElementById("strip-fresh");
  const stick = document.getElementById("stick");
  let stamp = body.dataset.stamp;
  let busy = false;
  // What answers a form is shown once, a code say: to load it again would be to send the form again.
  const answers = "answers" in body.dataset;

  // A form that was sent leads to another page: to load this one again meanwhile would keep people from getting there.
  const LEAVING_MS = 15000;
  let sentMs = -LEAVING_MS;
  let typed = false;
  addEventListener("submit", () => { sentMs = performance.now(); });
  addEventListener("input", () => { typed = true; });
  const reload = ({ spares }) => {
    if (performance.now() - sentMs < LEAVING_MS || (spares && typed)) return;
    if (answers) location.assign("/");
    else location.reload();
  };

  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  // The parts marked data-live take the place of what they were; what a person is on keeps the focus.
  const renew = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", ...BY_ITSELF } });
    if (!answer.ok || answer.redirected) return reload({ spares: !answer.redirected });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // what begins or ends changes what may be pressed, not only what is said
    if (page.body.dataset.phase !== body.dataset.phase) return reload({ spares: false });
    for (const old of document.querySelectorAll("[data-live]")) {
      const made = page.getElementById(old.id);
      if (!made || made.innerHTML === old.innerHTML) continue;
      const held = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const opened = [...old.querySelectorAll("details")].map((details) => details.open);
      old.replaceChildren(...made.childNodes);
      old.querySelectorAll("details").forEach((details, number) => { details.open = opened[number] || false; });
      if (held) old.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
    }
    stamp = page.body.dataset.stamp;
  };

  const look = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch("/live", { headers: { Accept: "application/json", ...BY_ITSELF } });
      if (!answer.ok) throw new Error(answer.statusText);
      const now = await answer.json();
      strip.className = `strip strip-${now.standing}`;
      say(words, now.strip);
      say(fresh, now.freshness);
      say(stick, now.stick);
      // what somebody has typed goes with them; what was typed before anybody signed in is still to be sent
      if (now.who !== body.dataset.who) return reload({ spares: body.dataset.who === "" });
      if (now.stamp !== stamp && !answers) await renew();
    } catch {
      strip.className = "strip strip-blocked";
      say(words, body.dataset.stopped);
    } finally {
      busy = false;
    }
  };

  setInterval(look, POLL_MS);
  document.addEventListener("visibilitychange", look);

  const size = (bytes) => {
    const units = document.documentElement.lang === "fr" ? ["o", "ko", "Mo", "Go"] : ["B", "kB", "MB", "GB"];
    let unit = 0;
    while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
    const digits = unit === 0 || bytes >= 100 ? 0 : 1;
    return `${bytes.toLocaleString(document.documentElement.lang, { maximumFractionDigits: digits })}\u00a0${units[unit]}`;
  };

  for (const input of document.querySelectorAll("input[type=file][multiple]")) {
    const list = document.createElement("ul");
    list.className = "chosen";
    list.setAttribute("aria-live", "polite");
    input.after(list);
    input.addEventListener("change", () => {
      const files = [...input.files];
      const shown = files.length > 1 ? files.slice(0, 20) : [];
      list.replaceChildren(...shown.map((file) => {
        const line = document.createElement("li");
        line.textContent = `${file.webkitRelativePath || file.name} (${size(file.size)})`;
        return line;
      }));
    });
  }

  for (const form of document.querySelectorAll("form[data-sending]")) {
    form.addEventListener("submit", () => {
      say(form.querySelector(".sending"), form.dataset.sending);
      // afterwards: a button that is disabled now would not be sent with the form
      setTimeout(() => { for (const button of form.querySelectorAll("button")) button.disabled = true; });
    });
  }

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => print());
  }

  // Back to a page that was left: its form can be sent again.
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sending]")) {
      say(form.querySelector(".sending"), "");
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  });
})();
