// The asking side for make_negentropy.py: the `nip77` module of the npm package `nostr-tools` (Unlicense), a port of the
// protocol author's own implementation. It counts timestamps in 32 bits.
// stdin: one line {"items": [[timestamp, id]], "frame_limit_bytes"}, then one answer (hex) a line.
// stdout: for each line {"message": hex or null, "have": [ids], "need": [ids]}.

import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const module = pathToFileURL(resolve("node_modules/nostr-tools/lib/esm/nip77.js"));
const { Negentropy, NegentropyStorageVector } = await import(module);

let asking = null;
for await (const line of createInterface({ input: process.stdin })) {
  const have = [];
  const need = [];
  let message;
  if (asking === null) {
    const { items, frame_limit_bytes } = JSON.parse(line);
    const storage = new NegentropyStorageVector();
    for (const [timestamp, id] of items) storage.insert(timestamp, id);
    storage.seal();
    asking = new Negentropy(storage, frame_limit_bytes);
    message = asking.initiate();
  } else {
    message = asking.reconcile(line, (id) => have.push(id), (id) => need.push(id));
  }
  console.log(JSON.stringify({ message, have, need }));
}
