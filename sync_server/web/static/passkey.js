// Asks the browser for a passkey, or to make one, and sends what it says in the page's own form.
// Without this file the pages ask for a code of an application, and say that a passkey needs scripts.
"use strict";

(() => {
  const form = document.querySelector("form[data-passkey]");
  const asked = form.dataset;
  const problem = document.querySelector(".no-passkey");
  const button = form.querySelector("button");
  const keys = JSON.parse(asked.keys);
  const PATIENCE_MS = 240000;

  function bytes(text) {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(plain, (char) => char.charCodeAt(0));
  }

  function text(buffer) {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  function fail(why) {
    problem.querySelector("span").textContent = problem.dataset[why];
    problem.hidden = false;
    button.disabled = false;
    button.focus();
  }

  function send(fields) {
    for (const [name, buffer] of Object.entries(fields)) {
      form.elements[name].value = text(buffer);
    }
    form.submit();
  }

  async function use(here) {
    const made = await navigator.credentials.get({
      publicKey: {
        challenge: bytes(asked.challenge),
        allowCredentials: here.map((key) => ({ type: "public-key", id: bytes(key.id) })),
        userVerification: "required",
        timeout: PATIENCE_MS,
      },
    });
    const said = made.response;
    send({
      id: made.rawId,
      client: said.clientDataJSON,
      authenticator: said.authenticatorData,
      signature: said.signature,
    });
  }

  async function make() {
    const made = await navigator.credentials.create({
      publicKey: {
        rp: { name: asked.product },
        user: { id: bytes(asked.handle), name: asked.account, displayName: asked.account },
        challenge: bytes(asked.challenge),
        pubKeyCredParams: [
          { type: "public-key", alg: -7 },
          { type: "public-key", alg: -257 },
        ],
        excludeCredentials: keys.map((key) => ({ type: "public-key", id: bytes(key.id) })),
        authenticatorSelection: { userVerification: "required", residentKey: "discouraged" },
        attestation: "none",
        timeout: PATIENCE_MS,
      },
    });
    const said = made.response;
    send({
      id: made.rawId,
      client: said.clientDataJSON,
      authenticator: said.getAuthenticatorData(),
      key: said.getPublicKey(),
    });
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    if (!window.PublicKeyCredential) {
      fail("unable");
      return;
    }
    const here = keys.filter((key) => key.origin === location.origin);
    if (asked.passkey === "use" && !here.length) {
      fail("elsewhere");
      return;
    }
    button.disabled = true;
    try {
      await (asked.passkey === "use" ? use(here) : make());
    } catch (error) {
      fail(error.name === "InvalidStateError" ? "known" : "failed");
    }
  });
  form.hidden = false;
  if (asked.passkey === "use") {
    button.focus();
  }
})();
