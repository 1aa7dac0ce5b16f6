import { invariant } from "./invariant.js";

// Every limit of the program, with its reason. Nothing outside this file invents a bound.

const KIB = 1024;
const MIB = 1024 * KIB;

/** Crucible's largest frame, length field included (protocol, MAX_FRM_LEN). */
export const FRAME_BYTES_MAX = 100 * MIB;
/** Length and tag: the smallest legal Crucible frame. */
export const FRAME_BYTES_MIN = 8;
/** Message versions that a peer may list besides its own; the protocol has had 13. */
export const ALTERNATE_VERSIONS_MAX = 1024;
/** Destinations of one extent repair; client ids are 0 to 2, and naming one twice does no harm. */
export const REPAIR_DESTINATIONS_MAX = 16;
/** Largest piece of data in one device request, and so in one Crucible job; the original cuts at the same size. */
export const PIECE_BYTES_MAX = MIB;
/** Receive buffer of a stream; a message that is parsed in place must fit. Larger means more copying of payload. */
export const INBOX_BYTES = 64 * KIB;
/** Largest single piece of memory that `Stream.compose` hands out. */
export const COMPOSE_BYTES_MAX = 16 * KIB;
/** A peer that leaves this much unread is no longer listened to until it has read. */
export const BACKLOG_BYTES_MAX = MIB;
/** Inboxes and composed messages of all streams together: a full arena must not stop replies. */
export const STREAM_BYTES_TOTAL = 128 * MIB;
/** A peer that does not take what is left to send is cut off this long after `end`. */
export const END_MS_MAX = 10_000;
/** How long we listen to a peer after our own end, or after it stopped listening to us. */
export const LINGER_MS_MAX = 1_000;

/** Crucible's block sizes: 512 B to 32 KiB, powers of two. */
export const BLOCK_SHIFT_MIN = 9;
export const BLOCK_SHIFT_MAX = 15;
/** Data part of one extent file (reference implementation's own limit). */
export const EXTENT_BYTES_MAX = 512 * MIB;
/** Written data that a region keeps in memory before it writes it out, at most (and at most a quarter of the arena). */
export const STORE_HELD_BYTES_MAX = 64 * MIB;
/** region.json; the original writes a few hundred bytes. */
export const REGION_CONFIG_BYTES_MAX = 64 * KIB;

/** What is encrypted or decrypted within the loop; more goes to other threads, as it would take longer than being told of it. */
export const SEAL_AT_ONCE_BYTES_MAX = 64 * KIB;
/** The same on a processor without instructions for it, which takes fifty times as long. */
export const SEAL_AT_ONCE_BYTES_MAX_PORTABLE = 32 * KIB;

/** NBD: strings are at most this long (nbd protocol, "Values"). */
export const NBD_STRING_BYTES_MAX = 4096;
/** Option data beyond this is an attack or a bug; the largest honest one is a list of metadata contexts. */
export const NBD_OPTION_BYTES_MAX = 64 * KIB;
/** Largest READ or WRITE we advertise and serve. */
export const NBD_PAYLOAD_BYTES_MAX = 64 * MIB;
export const NBD_HANDSHAKE_MS_MAX = 20_000;
export const NBD_CONNECTIONS_MAX = 256;
/** The kernel keeps 128 requests in flight on a connection; others a few hundred. */
export const NBD_REQUESTS_PER_CONNECTION_MAX = 1024;
/** Sockets still in their handshake: beyond it the oldest one makes room, so that a port scanner locks nobody out. */
export const NBD_HANDSHAKES_MAX = 64;
/** A refused WRITE of up to this much is read and dropped; a longer one costs the connection (nbd protocol: "need not drain"). */
export const NBD_REFUSED_BYTES_MAX = 32 * MIB;
/** Bytes of all READs that are under way or not sent yet, unless the arena asks for less. */
export const NBD_READ_BYTES_MAX = 256 * MIB;
/** A client that takes nothing for this long, while others wait for the memory it keeps, is cut off. */
export const NBD_STALL_MS_MAX = 30_000;
/** An orderly stop waits this long for clients to take their answers. */
export const NBD_STOP_MS_MAX = 10_000;
/** While stopping, a client in its handshake may still ask this long, and is told ERR_SHUTDOWN. */
export const NBD_STOP_HANDSHAKE_MS = 500;

/** Before clients are left to a successor: how often it is looked whether their requests are done. */
export const NBD_PARK_LOOK_MS = 1;

/** How long requests under way may hold up a hand-over; then the successor carries them out. */
export const HAND_OVER_PARK_MS = 2_000;
/** The same when fewer than two replicas are there, so that a write cannot be answered anyway. */
export const HAND_OVER_ALONE_MS = 200;
/** How long the last flush may hold up a hand-over; then the successor finishes the write log, as after a crash. */
export const HAND_OVER_FLUSH_MS = 3_000;

/** Protocol constants of the original upstairs, all configurable. */
export const PING_INTERVAL_MS = 5_000;
export const SILENCE_MS_MAX = 45_000;
export const REDIAL_MS = 10_000;
export const DIAL_TIMEOUT_MS = 10_000;
export const AUTO_FLUSH_MS = 500;
/** How long two replicas wait for the third before the volume starts without it. */
export const DEGRADED_AFTER_MS = 30_000;
/** Before a region that was refused is asked again: each time takes it from whoever uses it. */
export const REFUSED_REDIAL_MS = 60_000;
/** Time for a replica to be restarted in, before what follows counts. Longer than most restarts, shorter than a guest's patience. */
export const OFFLINE_GRACE_MS = 15_000;
/** One step of the repair of one extent. The original's copy may take three requests of 15 s and some syncing. */
export const REPAIR_STEP_MS_MAX = 60_000;
/** The window in which a replica under repair is judged to be too slow for the guest. */
export const REPAIR_PATIENCE_MS = 15_000;
/** After a failed repair (the original: this long, for ever). */
export const REPAIR_RETRY_MS = 10_000;
export const REPAIR_RETRY_MS_MAX = 600_000;
/** An offline replica with more than this outstanding comes back by repair, not by replay. */
export const OFFLINE_JOBS_MAX = 1000;
export const OFFLINE_BYTES_MAX = 50 * MIB;

/** Jobs a downstairs holds for one connection. The original upstairs has 1500 permits, but replays up to 10,000. */
export const JOBS_PER_CONNECTION_MAX = 65_536;
/** Unmet dependencies of all those jobs: 16 bytes each. A flush names at most what is outstanding. */
export const DEPENDENCIES_WAITING_MAX = 4 * 1024 * 1024;
/** Ids that may be depended on; a flush or barrier forgets them, and a barrier comes every 10,000 jobs. */
export const COMPLETED_JOBS_MAX = 1024 * 1024;
/** Data of reads that a peer has asked for and not taken yet; later reads of that connection wait. */
export const REPLY_BYTES_MAX = 16 * MIB;
/** Part of the arena (1/n) that writes on arrival leave alone, so that reads can go on and jobs retire. */
export const ARENA_RESERVE_SHARE = 4;
/** Connections of one region; a read-only one has many upstairs. */
export const CONNECTIONS_PER_REGION_MAX = 256;
/** A failing job is tried again after this long, doubled each time up to the maximum. */
export const RETRY_FIRST_MS = 100;
export const RETRY_MS_MAX = 5_000;
/** Repair HTTP: no answer, or no byte of one, for this long (original: the same 15 s, but for the whole file). */
export const REPAIR_IDLE_MS = 15_000;
/** The repair server listens this far above the data port. */
export const REPAIR_PORT_OFFSET = 4_000;
/** What was said last has this long to leave before a connection that we end is cut. */
export const LINGER_MS = 10_000;
/** Clients of one repair or control server at a time. */
export const HTTP_CONNECTIONS_MAX = 64;
/** Control socket: a request names two addresses at most. Less than an inbox, in which it has to lie as a whole. */
export const CONTROL_REQUEST_BYTES_MAX = 16 * KIB;
/** An answer is a status: some kilobytes, with room for long addresses and sentences. */
export const CONTROL_ANSWER_BYTES_MAX = 256 * KIB;
/** A client that leaves more answers than this unread is cut off. */
export const CONTROL_BACKLOG_BYTES_MAX = 512 * KIB;
/** Clients of a control socket; beyond it the oldest makes room. */
export const CONTROL_CLIENTS_MAX = 16;
/** Answers of a repair server other than files. */
export const REPAIR_JSON_BYTES_MAX = 64 * KIB;

invariant(INBOX_BYTES >= COMPOSE_BYTES_MAX, "a composed message fits into an inbox");
invariant(INBOX_BYTES > CONTROL_REQUEST_BYTES_MAX, "a request for control fits into an inbox");
invariant(INBOX_BYTES >= NBD_OPTION_BYTES_MAX, "an option's data fits into an inbox");
invariant(
  COMPOSE_BYTES_MAX >= 2 * NBD_STRING_BYTES_MAX + 64,
  "a name with its description fits into one composed message",
);
invariant(
  FRAME_BYTES_MAX >= 2 * PIECE_BYTES_MAX,
  "a full piece with its contexts fits into a frame",
);
