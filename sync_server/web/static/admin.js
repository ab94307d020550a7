// An open page fetches itself again when the server says that something has changed, and takes over what differs.
// Without this file the pages say the same; they only stay as they were.
"use strict";

(() => {
  const LEAST_PAUSE_MS = 1000;
  const live = document.querySelector(".live");
  const ended = document.querySelector(".ended");
  let mark = document.body.dataset.mark;
  let source = null;
  let fetching = false;
  let wanted = false;

  function say(on) {
    live.hidden = false;
    live.textContent = on ? live.dataset.on : live.dataset.off;
    live.classList.toggle("is-on", on);
  }

  function end() {
    source.close();
    live.hidden = true;
    if (!ended.querySelector("p")) {
      ended.append(ended.querySelector("template").content.cloneNode(true));
    }
  }

  // What had the focus keeps it, if it is still there under the same address or id.
  function holdFocus(change) {
    const held = document.activeElement;
    change();
    if (held && !held.isConnected) {
      const address = held.getAttribute("href");
      const again = held.id
        ? document.getElementById(held.id)
        : address && [...document.querySelectorAll("main a")].find((link) => link.getAttribute("href") === address);
      if (again) {
        again.focus({ preventScroll: true });
      }
    }
  }

  // Rows are matched by their key, so that those that say the same stay untouched.
  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) {
      return;
    }
    const rows = [...fresh.children];
    if (!rows.length || !rows.every((row) => row.dataset.key) || ![...old.children].every((row) => row.dataset.key)) {
      old.replaceWith(fresh);
      return;
    }
    const before = new Map([...old.children].map((row) => [row.dataset.key, row]));
    let place = old.firstElementChild;
    for (const row of rows) {
      const known = before.get(row.dataset.key);
      before.delete(row.dataset.key);
      let kept = known;
      if (!known || !known.isEqualNode(row)) {
        row.classList.add("is-fresh");
        kept = row;
        if (known) {
          if (known === place) {
            place = row;
          }
          known.replaceWith(row);
        }
      }
      if (kept === place) {
        place = place.nextElementSibling;
      } else {
        old.insertBefore(kept, place);
      }
    }
    for (const gone of before.values()) {
      gone.remove();
    }
  }

  // Marks of earlier changes are taken off, or nothing would ever be equal again.
  function settle() {
    for (const row of document.querySelectorAll(".is-fresh")) {
      row.classList.remove("is-fresh");
      if (!row.getAttribute("class")) {
        row.removeAttribute("class");
      }
    }
  }

  async function fetchAgain() {
    if (fetching || document.hidden) {
      wanted = true;
      return;
    }
    fetching = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { headers: { "X-Relais-Live": "1" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        end();
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        mark = page.body.dataset.mark;
        settle();
        holdFocus(() => {
          for (const part of page.querySelectorAll("[data-live]")) {
            const old = document.querySelector(`[data-live="${part.dataset.live}"]`);
            if (old) {
              renew(old, document.adoptNode(part));
            }
          }
        });
        say(true);
      }
    } catch {
      say(false);
    } finally {
      setTimeout(() => {
        fetching = false;
        if (wanted) {
          fetchAgain();
        }
      }, LEAST_PAUSE_MS);
    }
  }

  function watch() {
    source = new EventSource(`${document.body.dataset.watch}?mark=${mark}`);
    source.addEventListener("open", () => say(true));
    source.addEventListener("changed", fetchAgain);
    source.addEventListener("ended", end);
    source.addEventListener("error", () => {
      say(false);
      if (source.readyState === EventSource.CLOSED) {
        // the server answered, and not with events: signed out, or too many watch; the page itself knows
        setTimeout(() => {
          fetchAgain();
          watch();
        }, 30000);
      }
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && wanted) {
      fetchAgain();
    }
  });
  watch();
})();
