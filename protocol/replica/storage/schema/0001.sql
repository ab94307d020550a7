-- Schema 1: one replica at rest. A program that knows schema 1 can use it.
-- compat: 1
--
-- Ids, hashes and keys are 32 bytes unless said otherwise; times are milliseconds since 1970, UTC.

-- The spaces met so far, by a small number that other tables use instead of 32 bytes.
CREATE TABLE space (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    -- how many entries have arrived
    count INTEGER NOT NULL DEFAULT 0,
    -- hash over the ids of all arrivals in order: BLAKE3(hash before ‖ id), 32 zeros at the start
    chain BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(chain) = 32)
) STRICT;

-- The authors met so far, by a small number.
CREATE TABLE author (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32)
) STRICT;

-- The set. Header, signature, salt and payload are the bytes that came in; the rest is copied out of them for indexes.
CREATE TABLE entry (
    -- order of arrival over all spaces
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    space INTEGER NOT NULL REFERENCES space (number),
    -- 1, 2, 3 … in its space
    arrival INTEGER NOT NULL,
    -- the first 8 bytes of the space's chain once this entry had arrived
    chain BLOB NOT NULL,
    kind INTEGER NOT NULL,
    author INTEGER NOT NULL REFERENCES author (number),
    -- the time under which reconciliation sorts it
    at_ms INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    -- both NULL once erased
    salt BLOB,
    payload BLOB
) STRICT;

-- for pages by cursor
CREATE UNIQUE INDEX entry_by_arrival ON entry (space, arrival);
-- for the entries that give rights and names, over all spaces
CREATE INDEX entry_by_kind ON entry (kind);
-- for the heads of one author
CREATE INDEX entry_by_author ON entry (author, space);
-- for reconciliation, in its own order
CREATE INDEX entry_by_time ON entry (space, at_ms, id);

-- The outbox: entries that the server is not known to hold.
CREATE TABLE unsent (
    seq INTEGER PRIMARY KEY REFERENCES entry (seq),
    wire_bytes INTEGER NOT NULL
) STRICT;

-- Quarantine: entries that wait for another one, outside the set.
CREATE TABLE held (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    -- who brought it
    source BLOB NOT NULL,
    -- the id it waits for; NULL: an erasure that covers it
    missing BLOB,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    salt BLOB,
    payload BLOB,
    wire_bytes INTEGER NOT NULL
) STRICT;

-- for the bounds per source
CREATE INDEX held_by_source ON held (source, wire_bytes);

-- Small local values that are not history: cursors, caches, secrets of this replica.
CREATE TABLE mark (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Registers: only the newest of each (kind, subject, device) counts.
CREATE TABLE register (
    kind INTEGER NOT NULL,
    subject BLOB NOT NULL,
    device BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (kind, subject, device)
) STRICT;

-- Entries that `verify` found bad, as they were, for whoever wants to know what happened.
CREATE TABLE damaged (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    why TEXT NOT NULL,
    header BLOB,
    signature BLOB,
    salt BLOB,
    payload BLOB
) STRICT;

-- Packs whose file lies whole and verified in the folder of packs.
CREATE TABLE pack (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL
) STRICT;

-- The spaces that a pack belongs to.
CREATE TABLE pack_space (
    pack INTEGER NOT NULL REFERENCES pack (number),
    space INTEGER NOT NULL REFERENCES space (number),
    -- 1 while the server is not known to hold the pack for this space
    unsent INTEGER NOT NULL CHECK (unsent IN (0, 1)),
    PRIMARY KEY (pack, space)
) STRICT, WITHOUT ROWID;

-- for what remains to be sent
CREATE INDEX pack_space_unsent ON pack_space (pack) WHERE unsent = 1;

-- The frames of a pack: where each lies in the file, and its sizes.
CREATE TABLE frame (
    pack INTEGER NOT NULL REFERENCES pack (number),
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    -- bytes in the file, and bytes once opened
    stored_bytes INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    -- how the bytes in the file are stored (0 raw, 1 zstd), and their BLAKE3-256
    codec INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (pack, number)
) STRICT, WITHOUT ROWID;

-- Which packs hold a chunk, and where in the opened frame it lies.
CREATE TABLE chunk (
    hash BLOB NOT NULL,
    pack INTEGER NOT NULL REFERENCES pack (number),
    frame INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (hash, pack)
) STRICT, WITHOUT ROWID;

-- The chunk lists of streams (35 bytes per chunk), as the packs brought them.
CREATE TABLE stream (
    id BLOB NOT NULL,
    pack INTEGER NOT NULL REFERENCES pack (number),
    chunks BLOB NOT NULL,
    PRIMARY KEY (id, pack)
) STRICT;

-- Deltas whose file lies whole in the folder of deltas: a cache, the ones used longest ago make room.
CREATE TABLE delta (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    space INTEGER NOT NULL REFERENCES space (number),
    -- ids of the manifests that it brings, of those that it is made of, hashes of the packs that it stands for: 32 each
    trees BLOB NOT NULL,
    bases BLOB NOT NULL,
    covers BLOB NOT NULL,
    -- 1 for those that bring all of a space to who has nothing, and the hashes of those that go with it
    strong INTEGER NOT NULL CHECK (strong IN (0, 1)),
    parts BLOB NOT NULL,
    -- the levels of deflate that a reader needs to take it, as bits
    levels INTEGER NOT NULL,
    -- 1 while it is to go to the server in place of its packs
    unsent INTEGER NOT NULL CHECK (unsent IN (0, 1)),
    -- grows with every use
    used INTEGER NOT NULL
) STRICT;
