// Records the dialogues of negentropy.json with an implementation that is not ours: the `nip77` module of the npm
// package `nostr-tools` (Unlicense), a port of the protocol author's own. It counts timestamps in 32 bits.
//
//   cd EMPTY_FOLDER && npm install nostr-tools@2.25.2 && node PROJECT/tests/vectors/make_negentropy.mjs > negentropy.json

import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { Negentropy, NegentropyStorageVector } = require("nostr-tools/nip77");

const FORMULA =
  "item n: id = SHA-256 of the text `${name}/${n}`; timestamp = 1700000000 + (first 4 bytes of the id, big-endian) " +
  "mod `spread`. A side holds the items from..to (not including to) of `initiator` or `responder`, without those " +
  "n > 0 that `initiator_lacks_every` or `responder_lacks_every` divides (0: none). `messages` alternate, the " +
  "initiator's first; `have` and `need` are the initiator's, as numbers of items.";

const cases = [
  { name: "both empty", initiator: [0, 0], responder: [0, 0] },
  { name: "nothing here", initiator: [0, 0], responder: [0, 5] },
  { name: "nothing there", initiator: [0, 5], responder: [0, 0] },
  { name: "31 are listed", initiator: [0, 31], responder: [1, 32] },
  { name: "32 are split", initiator: [0, 32], responder: [0, 32] },
  { name: "equal", initiator: [0, 300], responder: [0, 300] },
  { name: "both lack some", initiator: [0, 400], responder: [0, 400], initiator_lacks_every: 97, responder_lacks_every: 151 },
  { name: "one moment", initiator: [0, 150], responder: [0, 150], spread: 1, initiator_lacks_every: 60, responder_lacks_every: 70 },
  { name: "few moments", initiator: [0, 300], responder: [0, 300], spread: 12, initiator_lacks_every: 100, responder_lacks_every: 130 },
  { name: "one lacks most", initiator: [0, 40], responder: [0, 250] },
  { name: "frames cut a list", frame_limit_bytes: 4096, initiator: [0, 20], responder: [0, 280] },
  { name: "frames cut both ways", frame_limit_bytes: 4096, initiator: [0, 1000], responder: [0, 1000], initiator_lacks_every: 23, responder_lacks_every: 31 },
];

function item(spec, n) {
  const id = createHash("sha256").update(`${spec.name}/${n}`).digest();
  return { id: id.toString("hex"), timestamp: 1700000000 + (id.readUInt32BE(0) % spec.spread) };
}

function side(spec, [from, to], lacksEvery) {
  const storage = new NegentropyStorageVector();
  for (let n = from; n < to; n++) {
    if (n > 0 && lacksEvery && n % lacksEvery === 0) continue;
    const { id, timestamp } = item(spec, n);
    storage.insert(timestamp, id);
  }
  storage.seal();
  return new Negentropy(storage, spec.frame_limit_bytes);
}

function record(given) {
  const spec = { frame_limit_bytes: 0, spread: 100000, initiator_lacks_every: 0, responder_lacks_every: 0, ...given };
  const numbers = new Map();
  for (let n = 0; n < 2000; n++) numbers.set(item(spec, n).id, n);
  const initiator = side(spec, spec.initiator, spec.initiator_lacks_every);
  const responder = side(spec, spec.responder, spec.responder_lacks_every);
  const have = new Set();
  const need = new Set();
  const messages = [];
  let message = initiator.initiate();
  while (message !== null) {
    const answer = responder.reconcile(message);
    messages.push(message, answer);
    message = initiator.reconcile(answer, (id) => have.add(numbers.get(id)), (id) => need.add(numbers.get(id)));
  }
  const ascending = (set) => [...set].sort((a, b) => a - b);
  return { ...spec, messages, have: ascending(have), need: ascending(need) };
}

const vectors = { protocol: "Negentropy v1", branching: 16, id_list_below: 32, formula: FORMULA, dialogues: cases.map(record) };
process.stdout.write(JSON.stringify(vectors, null, 1) + "\n");
