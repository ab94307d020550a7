"""Every bound of the protocol, by name (R9; docs/protocol.md, "Limits").

A bound is checked before reading and again at the first byte too many. Sizes are bytes unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB

# canonical encoding
MAX_DEPTH_LEVELS: Final = 16
MAX_VALUES_PER_MESSAGE: Final = 524_288

# entries
MAX_HEADER_BYTES: Final = 4 * KiB
MAX_PAYLOAD_BYTES: Final = 64 * KiB
MAX_HAND_IN_PAYLOAD_BYTES: Final = KiB
MAX_WRAP_PAYLOAD_BYTES: Final = 8 * KiB
MAX_RECEIPT_PAYLOAD_BYTES: Final = 256
MAX_SPACE_WRAP_PAYLOAD_BYTES: Final = 32 * KiB
MAX_SUCCESSOR_PAYLOAD_BYTES: Final = 512
MAX_OTHER_WITNESS_BYTES: Final = 4 * KiB  # of kinds of classes 4 and 5 that a version does not know
MAX_ENTRIES_PER_KEY: Final = 20_000  # of classes 4 and 5, by one machine's key in one space
MAX_ENTRIES_PER_DEVICE: Final = 65_536  # the same, with all keys that it gave itself: a room of clones is one line
MAX_ENTRY_BYTES_PER_DEVICE: Final = 32 * MiB
MAX_STAFF_ENTRIES_PER_DEVICE: Final = 131_072  # of classes 1 to 5, by a relay, teacher, head or admin in one space
MAX_STAFF_ENTRY_BYTES_PER_DEVICE: Final = 64 * MiB
MAX_PARENTS: Final = 16
MAX_PREV: Final = 16
MAX_DRAWN_PHRASES: Final = 8  # that a device keeps to say again, one for each id as which it is granted
SALT_BYTES: Final = 16
MAX_NAME_CHARS: Final = 200
MAX_CALLED: Final = 256
"""Names of devices beside their grants in one sync answer."""
MAX_TEXT_CHARS: Final = 16_000
MAX_SPACES_PER_INVITE: Final = 64
MAX_HOSTS_PER_INVITE: Final = 32
MAX_READERS_PER_HAND_IN: Final = 50  # in one wrap
MAX_READERS_OF_ONE_WORK: Final = 200  # at a time, in several wraps
MAX_PHRASES_PER_DEVICE: Final = 4  # of a person; who draws another means the latest
MAX_PROOFS_PER_GRANT: Final = 4  # of phrases, by one device about another's grant
MAX_DRAWERS_TRIED: Final = 16  # devices of a person, for one proof: those with the key that it names, or any if none
MAX_PROOFS_THAT_NAME_NO_KEY: Final = 16  # of a person, that are tried
MAX_PHRASES_LOOKED_AT: Final = 16  # of a person, by one device: those in whose place others were drawn, too
MAX_READING_KEYS_PER_DEVICE: Final = 4  # in use; a device makes another where one is spent
MAX_READING_KEYS_AT_ONCE: Final = 4  # made by one device in place of spent ones, within the pause
READING_KEY_PAUSE_MS: Final = 3600 * 1000
READING_KEY_LONG_PAUSE_MS: Final = 7 * 24 * 3600 * 1000  # … where none of hers ever led to who was cut off
MAX_OWN_READING_KEYS: Final = 1_024  # made by one device for one class
MAX_GIVEN_READING_KEYS: Final = 256  # of a class, that a device keeps: of devices whose right holds; as many others
MAX_TRIED_PHRASES: Final = 64  # of a teacher's, by who types one; together no dearer than so many usual ones
MAX_LATE_WRAPS_PER_DEVICE: Final = 16  # keys of one teacher's device to which one work is sealed by its author
MAX_LATE_WRAPS_FOR_STRANGERS: Final = 16  # entries by which an author seals one work to who is new to it
MAX_SAFE_RECEIPTS_PER_STREAM: Final = 4  # by one device, for hand-ins that name the same sealed bytes; one is honest
MAX_SAFE_RECEIPTS_PER_LINE: Final = 2_048  # by one device, for what of one machine and its copies is on its way
MAX_WRAPS_BY_ONE: Final = 4  # of one work, for one reader, by one device; one is right
MAX_WRAPS_BY_OTHERS: Final = 16  # … by all devices together that owe nobody a wrap of it
MAX_RULED_ENTRIES: Final = 1_024
MAX_MET_OF_ONE: Final = 64  # devices of a person in a space, of each kind, that a replica notes in a week as met
MAX_REVOKED_HEADS: Final = 1_024
MAX_REVOKED_ABSENT: Final = 768  # beside as many heads and lists as there may be, in one payload
MAX_ENDED_GRANTS: Final = 32  # of one device in one space: of more, a person says that they are over
MAX_REVOCATION_LISTS: Final = 48  # they go with it, and with what proves it, where credentials go
MAX_ROOT_ACCOUNT_IDS: Final = 1_024  # of what a root had signed, in one entry
MAX_ROTATION_HEADS: Final = 128  # few: every rotation is in the chain that a server's TLS certificate holds
MAX_ROTATION_LISTS: Final = 32  # of these heads; a list is named only where the others are full
MAX_CERTIFICATES_BESIDE: Final = 128  # as few, for the same reason

# keys of spaces
MAX_WRAPS_PER_ENTRY: Final = 256

# sign-in on shared machines
SIGN_IN_PICTURES: Final = 12
SIGN_IN_PICTURES_CHOSEN: Final = 3
MIN_PIN_DIGITS: Final = 4
MIN_PASSWORD_CHARS: Final = 6
MIN_PASSPHRASE_CHARS: Final = 12
MAX_SIGN_IN_CHARS: Final = 200
MAX_SIGN_IN_TRIES: Final = 10

# what had arrived when, at one replica
MAX_ARRIVAL_NOTES: Final = 10_000  # of ten minutes each: two months without a pause
SINCE_REACHES_MS: Final = 70 * 24 * 3600 * 1000  # for so long people say since when a key was in other hands

# keys of spaces, at one office
MAX_SPACE_KEYS_AT_ONCE: Final = 32  # of one space, in a day
SPACE_KEY_PAUSE_MS: Final = 3600 * 1000  # between any two, once there were so many

# clocks, R6
MAX_CLOCK_LEAD_MS: Final = 24 * 3600 * 1000
MAX_MOVED_MS: Final = 10 * 60 * 1000  # by others' words, before a hand-in says what its machine knows of the time

# quarantine, per source
MAX_WAITING_ENTRIES: Final = 10_000
MAX_WAITING_BYTES: Final = 4 * MiB
HELD_MS: Final = 180 * 24 * 3600 * 1000
"""How long something waits in quarantine."""

# content
MIN_CHUNK_BYTES: Final = 16 * KiB
AVG_CHUNK_BYTES: Final = 64 * KiB
MAX_CHUNK_BYTES: Final = 256 * KiB
MAX_FILE_BYTES: Final = 4 * GiB - 1
MAX_STREAM_BYTES: Final = 5 * GiB  # a file, or a sealed one with its padding
MAX_FILES_PER_REVISION: Final = 50_000
MAX_PATH_BYTES: Final = 1_024
MAX_PATH_COMPONENT_BYTES: Final = 255
MAX_PATH_DEPTH: Final = 32
MAX_FOLDERS_PER_REVISION: Final = 50_000
MAX_MANIFEST_BYTES: Final = 32 * MiB
SPARE_CONTENT_BYTES: Final = 8 * MiB  # from one device into one space, before entries name it
MAX_LACKING_BYTES_PER_DEVICE: Final = 8 * GiB  # of its hand-ins, what counts as lacking in a space
MAX_HAND_IN_BYTES_PER_DEVICE: Final = 64 * GiB  # of its hand-ins, what counts in a space at all
ALLOWANCE_PERIOD_MS: Final = 30 * 24 * 3600 * 1000  # for which a server keeps what a device has brought
FRAME_TARGET_BYTES: Final = 2 * MiB
MAX_FRAME_BYTES: Final = 16 * MiB
MAX_PACK_BYTES: Final = 64 * MiB
PACK_TARGET_BYTES: Final = 32 * MiB
MAX_PACK_INDEX_BYTES: Final = 16 * MiB
MAX_PACK_PLAIN_BYTES: Final = GiB
MAX_FRAMES_PER_PACK: Final = 4_096
MAX_CHUNKS_PER_PACK: Final = 131_072
MAX_STREAMS_PER_PACK: Final = 131_072
MAX_CHUNK_REFS_PER_PACK: Final = 524_288
RATIO_FREE_BYTES: Final = MiB
NOTED_BYTES: Final = 100  # what counts for the row of a chunk or of a stream, beside the names in a list

# deltas
MAX_DELTA_BASES: Final = 16
MAX_DELTA_DICTIONARY_BYTES: Final = 16 * MiB
MAX_DELTA_IMAGES: Final = 4_096
MAX_DELTA_TARGETS: Final = 131_072
MAX_DELTA_MADE_BYTES: Final = 4 * GiB
MAX_DELTA_WORK_BYTES: Final = 4 * GiB  # opened, read and compressed again, for one delta
MAX_SPLICED_BYTES: Final = 8 * MiB
MAX_IMAGE_BYTES: Final = 32 * MiB

# reflate
MAX_REFLATE_FILE_BYTES: Final = 64 * MiB
MAX_REFLATE_IMAGE_BYTES: Final = 128 * MiB
MAX_REFLATE_STREAM_BYTES: Final = 64 * MiB
MIN_REFLATE_STREAM_BYTES: Final = 32
MAX_REFLATE_RATIO: Final = 100
MAX_REFLATE_STREAMS: Final = 65_536
MAX_REFLATE_DEPTH: Final = 3
MAX_RECIPE_BYTES: Final = MiB
MAX_IDAT_BYTES: Final = 16 * MiB
MAX_IDATS_PER_PNG: Final = 65_536

# hand-ins
SEALED_CHUNK_BYTES: Final = 64 * KiB
MIN_SEALED_BYTES: Final = 4 * KiB
MAX_SEALED_MANIFEST_BYTES: Final = 8 * MiB
MAX_FILES_PER_HAND_IN: Final = 1_000  # in a form of the portal; by a command, `MAX_FILES_PER_REVISION`

# envelope and messages
MAX_REQUEST_BYTES: Final = 4 * MiB
MAX_ANSWER_BYTES: Final = 8 * MiB
MAX_MESSAGE_BYTES: Final = 16 * MiB
MAX_COMPRESSION_RATIO: Final = 200
MAX_CREDENTIALS: Final = 64
MAX_CREDENTIAL_BYTES: Final = 256 * KiB  # of what shows who calls, or who answers: an honest right is a third of a KiB
MAX_RETRY_AFTER_S: Final = 600  # that an answer may ask for
MAX_STRANGER_VALUES: Final = 4_096  # of a message, up to the end of what proves who sends it
MAX_ENROLMENT_BYTES: Final = 4 * KiB  # sent by who has no right yet
MAX_SPACES_PER_REQUEST: Final = 4_096
MAX_ENDED_SPACES: Final = 257  # of which a caller says that it may not read them any more
MAX_PUSHED_BYTES: Final = 1 * MiB
FIRST_PUSH_BYTES: Final = 256 * KiB
PAGE_BYTES: Final = 1 * MiB
INLINE_PACK_BYTES: Final = 64 * KiB
INLINE_TOTAL_BYTES: Final = 256 * KiB
MAX_INLINE_PACKS: Final = 256
MAX_LISTED_IDS: Final = 10_000
MAX_HELD_NAMES: Final = 65_536
MAX_HELD_BYTES: Final = 320 * KiB  # of all names in one request; five bytes take any name
MAX_OFFERS: Final = 1_000  # of content, in one request, that are looked at
MAX_REPORTS_OF_ONE_DEVICE: Final = 4  # in one request, the latest, that are verified; the first that holds is kept
MAX_BATCH_BYTES: Final = 64 * MiB
MAX_BATCHED_BYTES_PER_PERIOD: Final = 256 * MiB
"""What is read and compressed of batches for one device, its copies included, in `BATCH_PERIOD_MS`."""
BATCH_PERIOD_MS: Final = 60 * 60 * 1000
CURSOR_HASH_BYTES: Final = 8
STANDING_BYTES: Final = 16
SETS_BYTES: Final = 16
SET_FINGERPRINT_BYTES: Final = 16  # by which two sets are compared
CHALLENGE_BYTES: Final = 11
MAX_CHALLENGE_BYTES: Final = 64
"""It is its server's own affair: another version's may be longer, and is said again as it is."""

# reconcile
RECONCILE_FRAME_BYTES: Final = 256 * KiB
MIN_RECONCILE_FRAME_BYTES: Final = 4 * KiB
MAX_RECONCILE_ROUNDS: Final = 1_024
MAX_RECONCILE_IDS: Final = 250_000

# neighbours on a school's network
MAX_INTRODUCTION_TAGS: Final = 64
MAX_NEIGHBOURS: Final = 8
LIKENESS_BYTES: Final = 16
MAX_TOLD_CURSORS: Final = 24
MAX_LAN_CALLERS: Final = 24

# clones
MAX_LIVES_HEARD: Final = 20_000  # devices whose processes are remembered
MAX_LIVES_PER_DEVICE: Final = 8
MAX_FORMER_KEYS: Final = 32  # one after the other: half of what a call shows of who makes it (`MAX_CREDENTIALS`)
MAX_SUCCESSORS_BY_WORDS: Final = 8  # one after the other, because somebody said so, until a person has confirmed one
MAX_SUCCESSORS: Final = 512  # keys that count by one grant, without a person's word: a large school's image
MAX_HARDWARE_IDS: Final = 64

# measures
MAX_DRILL_MINUTES: Final = 180  # of one drill, and of all that a machine plays in a day
MIN_DRILL_COUNTED_MINUTES: Final = 30  # of a day, by each drill that began
MAX_DRILL_LEAD_MS: Final = 3 * 3600 * 1000
DRILL_DAY_MS: Final = 24 * 3600 * 1000

# capabilities
CAPABILITY_LIFETIME_S: Final = 3600

# registers
MAX_REGISTER_BYTES: Final = 8 * KiB
MAX_HEALTH_BYTES: Final = 2 * KiB

# bundles
BUNDLE_CHUNK_BYTES: Final = 256 * KiB
MAX_BUNDLE_BYTES: Final = GiB  # well below what FAT32 holds
BUNDLE_TARGET_BYTES: Final = 128 * MiB
MAX_BUNDLE_PREFACE_BYTES: Final = 4 * MiB
MAX_BUNDLE_INDEX_BYTES: Final = 16 * MiB
MAX_BUNDLE_ENTRIES: Final = 131_072
MAX_BUNDLE_PACKS: Final = 32_768
MAX_BUNDLE_RECORD_BYTES: Final = 2 * MiB  # a batch of entries or registers; a pack has its own bound
MAX_BUNDLES_PER_DISK: Final = 20_000
MAX_LETTERS_PER_DISK: Final = 32
MAX_LETTERS_PER_LOOK: Final = 256  # of these the letters are taken; the others are none, whatever their names
"""Of each kind: chains of those who let in, requests to be let in, answers."""
MAX_LETTER_BYTES: Final = 64 * KiB
MAX_TERRITORIES_PER_DISK: Final = 16
MAX_NAMES_PER_DISK_FOLDER: Final = 2_000_000  # a folder of a courier disk with more is given up
MAX_BUNDLE_FRONTS_PER_LOOK_BYTES: Final = 256 * MiB  # heads and indexes that one look at a disk reads, short ones first

# erasure
ACQUAINTANCE_MS: Final = 7 * 24 * 3600 * 1000  # after which somebody who came to teach is known
RECEIPT_PROOF_MS: Final = 30 * 24 * 3600 * 1000
"""How long an author keeps a hand-in after the server's receipt, or once it has heard that it was opened (R8)."""
ERASURE_DELAY_MS: Final = 7 * 24 * 3600 * 1000
CUT_OFF_KEPT_MS: Final = 366 * 24 * 3600 * 1000  # what a server remembers of a machine that is cut off
MAX_UNWATCHED_MS: Final = 3 * 24 * 3600 * 1000  # what counts of a time in which nobody looked
MAX_BARE_IDS: Final = 256  # payloads that are asked for at once
MAX_ERASED_PER_DAY: Final = 5  # persons, without the kit's signature; nothing else is destroyed without it

# what people did at a machine
ACTS_KEPT_MS: Final = 365 * 24 * 3600 * 1000
MAX_ACTS: Final = 50_000  # ten lines an hour, day and night, for half a year
MAX_ACTS_OF_ONE_PER_DAY: Final = 1_000  # on pages; more is nobody's hand
MAX_ACT_CHARS: Final = 1_000
MAX_ACT_BYTES: Final = 16 * KiB
MAX_FAILED_SIGN_INS_PER_DAY: Final = 100

# keys, kit, invitation
MAX_CACHED_KEYS: Final = 4_096
MAX_DEVICE_KEYS_BYTES: Final = 4 * KiB
MAX_KIT_BYTES: Final = 128 * KiB  # ten rotations of the root, each with as many heads as one may name
MAX_KIT_NAME_BYTES: Final = 2 * KiB  # what it remembers of one name, whatever else it was made to say
MAX_KIT_MEMORY_KIB: Final = 256 * KiB
MAX_KIT_PASSES: Final = 16
MAX_KIT_LANES: Final = 16
MAX_CODE_CHARS: Final = 200
MAX_URL_CHARS: Final = 2_000
MAX_INVITED_DEVICES: Final = 10_000

# commands that reach the owner of a data directory
FILE_PIECE_BYTES: Final = 256 * KiB
MAX_PARAMS_BYTES: Final = 16 * MiB  # the list of a hand-in's files is among them
MAX_RESULT_BYTES: Final = 256 * MiB
MAX_FAILURE_BYTES: Final = 256 * KiB
MAX_PROGRESS_BYTES: Final = 4 * KiB
MAX_SENTENCE_CHARS: Final = 4_000
MAX_KIT_QUESTION_BYTES: Final = 16 * MiB
MAX_KIT_ENTRIES_AT_ONCE: Final = 64  # with a payload of 64 KiB each, and as many that they are about
KIT_ANSWER_TIMEOUT_S: Final = 60
MAX_CONTROL_FILE_BYTES: Final = 4 * KiB
MAX_CONFIG_FILE_BYTES: Final = 64 * KiB
MAX_BACKUP_HEAD_BYTES: Final = 64 * KiB

# log files of a running program
LOG_FILE_BYTES: Final = 2 * MiB
LOG_FILES_KEPT: Final = 4

# connections and requests of a listener
MAX_CONNECTIONS: Final = 50_000
MAX_ASKING: Final = 4_096  # whose request is not whole, head or body
MAX_ASKING_PER_ADDRESS: Final = 512  # a school may be one address
MAX_REQUESTS_PER_ADDRESS: Final = 1_024
MAX_READ_CALLS: Final = 4_096  # whose body is not whole
MAX_WAITING_CALLS: Final = 512
MAX_WAITING_CALLS_PER_ADDRESS: Final = 256
MAX_WAITING_CALL_BYTES: Final = 48 * MiB
MAX_REQUEST_FIELDS: Final = 64
MAX_REQUEST_LINE_BYTES: Final = 8 * KiB

# a server's TLS certificate
MAX_TLS_BINDING_BYTES: Final = 64 * KiB  # OpenSSL takes 100 kB of certificates
MAX_TLS_FILE_BYTES: Final = 256 * KiB

# networks on the way
MAX_PROXY_SCRIPT_BYTES: Final = 1 * MiB
MAX_AUTHORITIES_BYTES: Final = 1 * MiB
MAX_SEEN_CHARS: Final = 80
