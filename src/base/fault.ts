/**
 * Everything that can go wrong outside this process: one row each. The key is the stable code that
 * users see; `exit` the class that decides the exit status; `advice` one sentence saying what to do.
 * Rows may be added; a code is never reused for something else.
 */
export const FAULTS = {
  // Command line and configuration
  TRIVET_E_USAGE: { exit: "usage", advice: "Run the command with --help." },
  TRIVET_E_CONFIG: { exit: "usage", advice: "Correct the file at the place named." },
  TRIVET_E_GENERATION_ZERO: {
    exit: "usage",
    advice: "Leave --gen out, or give a number of at least 1.",
  },
  TRIVET_E_NOT_YET: { exit: "usage", advice: "This version does not offer it." },

  // The machine
  TRIVET_E_ADDRESS_IN_USE: {
    exit: "environment",
    advice: "Stop the program that listens there, or choose another address.",
  },
  TRIVET_E_LISTEN: {
    exit: "environment",
    advice: "Check the address, the path and the permissions.",
  },
  TRIVET_E_PERMISSION: {
    exit: "environment",
    advice: "Run as a user who may do this, or change the owner.",
  },
  TRIVET_E_NO_SPACE: { exit: "environment", advice: "Make room on the file system." },
  TRIVET_E_FILE: { exit: "environment", advice: "Check the path and the disk." },
  TRIVET_E_MEMORY: {
    exit: "environment",
    advice: "Give the process more memory, or a smaller arena.",
  },
  TRIVET_E_NATIVE: {
    exit: "environment",
    advice: "Run npm start once: it builds the native part.",
  },

  // Units of systemd
  TRIVET_E_UNITS_PLACE: {
    exit: "environment",
    advice:
      "Put the program and Node where services may read them, such as /opt/trivet, or name their place by --program and --node.",
  },
  TRIVET_E_UNITS_CHANGED: {
    exit: "environment",
    advice: "Look at them first; --force replaces or removes them.",
  },
  TRIVET_E_UNITS_IN_USE: {
    exit: "environment",
    advice: "Unmount what is on them, and say systemctl disable --now to each.",
  },
  TRIVET_E_UNITS_MANIFEST: {
    exit: "data",
    advice: "Move it away, and say trivet install-units again: that makes a new one.",
  },
  TRIVET_E_UNITS_HOST: {
    exit: "environment",
    advice: "The files are in place; say these commands by hand.",
  },

  // Region directories
  TRIVET_E_REGION_MISSING: { exit: "data", advice: "Check the path, or create the region first." },
  TRIVET_E_REGION_EXISTS: {
    exit: "data",
    advice: "Choose an empty directory; nothing was changed.",
  },
  TRIVET_E_REGION_CONFIG: { exit: "data", advice: "Restore region.json from another copy." },
  TRIVET_E_REGION_GEOMETRY: {
    exit: "data",
    advice: "Choose a block size of 512 to 32768 (a power of two) and extents of at most 512 MiB.",
  },
  TRIVET_E_REGION_RESIZE: {
    exit: "data",
    advice: "Create a new region of the size wanted and copy the data over.",
  },
  TRIVET_E_REGION_LOCKED: { exit: "data", advice: "Stop the process that has the region open." },
  TRIVET_E_REGION_SQLITE: {
    exit: "data",
    advice: "Open the region once with the original crucible-downstairs, which converts it.",
  },
  TRIVET_E_EXTENT_MISSING: {
    exit: "data",
    advice: "Replace this region; the other replicas hold the data.",
  },
  TRIVET_E_EXTENT_SIZE: {
    exit: "data",
    advice: "Replace this region; the other replicas hold the data.",
  },
  TRIVET_E_EXTENT_METADATA: {
    exit: "data",
    advice: "Replace this region; the other replicas hold the data.",
  },
  TRIVET_E_EXTENT_CONTEXT: {
    exit: "data",
    advice: "Replace this region; the other replicas hold the data.",
  },
  TRIVET_E_REGION_VERIFY: {
    exit: "data",
    advice: "Replace this region; the other replicas hold the data.",
  },
  TRIVET_E_SALVAGE_NOTHING: {
    exit: "data",
    advice: "Name directories that hold extent files, such as 00/000/000.",
  },
  TRIVET_E_SALVAGE_GEOMETRY: {
    exit: "data",
    advice: "Name regions of one volume only, or say --geometry BLOCKSIZE,BLOCKS,EXTENTS.",
  },
  TRIVET_E_SALVAGE_ENCRYPTED: {
    exit: "data",
    advice: "Give --ciphertext to get it all the same; nonces and tags then go to IMAGE.seals.",
  },
  TRIVET_E_SALVAGE_OUTPUT: {
    exit: "usage",
    advice: "Choose another place for the image; --force replaces an ordinary file.",
  },
  TRIVET_E_SALVAGE_DOUBTFUL: {
    exit: "doubtful",
    advice: "Read the report, and check what is in the image before you rely on it.",
  },
  TRIVET_E_OPEN_FILES: {
    exit: "environment",
    advice: "Raise the limit on open files (LimitNOFILE= in the unit, ulimit -n in a shell).",
  },
  TRIVET_E_STORE_CLOSED: { exit: "data", advice: "The region is being closed; open it again." },
  TRIVET_E_READ_ONLY: { exit: "data", advice: "Open it read-write." },
  TRIVET_E_IO: { exit: "io", advice: "Look at the kernel log: a disk may be failing." },

  // Peers
  TRIVET_E_DIAL: { exit: "peer", advice: "Check that the other side runs and can be reached." },
  TRIVET_E_CONNECTION: { exit: "peer", advice: "Check the network and the other side's log." },
  TRIVET_E_TIMEOUT: { exit: "peer", advice: "Check the network and the other side's log." },
  TRIVET_E_FRAME: {
    exit: "peer",
    advice: "The other side does not speak Crucible message version 13.",
  },
  TRIVET_E_PROTOCOL: { exit: "peer", advice: "Check that both sides run released versions." },
  TRIVET_E_RANGE: { exit: "peer", advice: "Check that both sides mean the same region." },
  TRIVET_E_HASH: {
    exit: "peer",
    advice: "Data was damaged on its way: check memory and network of both hosts.",
  },
  TRIVET_E_EXTENT_CLOSED: { exit: "peer", advice: "It opens again when its repair is over." },
  TRIVET_E_VERSION: { exit: "peer", advice: "Run a peer that speaks Crucible message version 13." },
  TRIVET_E_ENCRYPTED_MISMATCH: {
    exit: "peer",
    advice: "Give the key exactly when the regions were created encrypted.",
  },
  TRIVET_E_READ_ONLY_MISMATCH: {
    exit: "peer",
    advice: "Serve read-only exactly when the downstairs runs in read-only mode.",
  },
  TRIVET_E_GEOMETRY_MISMATCH: {
    exit: "peer",
    advice: "Name three regions of one block size, extent size and extent count.",
  },
  TRIVET_E_SAME_REGION: { exit: "peer", advice: "Name three different regions." },
  TRIVET_E_REGION_CHANGED: {
    exit: "peer",
    advice: "Another region answers at this address: put the right one back.",
  },
  TRIVET_E_REGION_EMPTY: {
    exit: "data",
    advice: "Check that the right regions are served; the flag named goes on without the others.",
  },
  TRIVET_E_REGION_FOREIGN: {
    exit: "data",
    advice: "Check the addresses; the flag named gives the data of that region up.",
  },
  TRIVET_E_REGION_OLDER: {
    exit: "data",
    advice: "Start the third replica; the flag named goes on without it.",
  },
  TRIVET_E_REPLACE: { exit: "usage", advice: "Look at trivet status, and try again then." },
  TRIVET_E_GENERATION_TOO_LOW: {
    exit: "peer",
    advice: "Leave --gen out, or give a number above the one found.",
  },
  TRIVET_E_SUPERSEDED: {
    exit: "superseded",
    advice: "Another host has taken the volume over; start here again only to take it back.",
  },
  TRIVET_E_RECONCILE: {
    exit: "peer",
    advice: "It is tried again; see the log of the replica named.",
  },
  TRIVET_E_REPAIR: { exit: "peer", advice: "It is tried again; see the log of the replica named." },

  // The write log
  TRIVET_E_LOG_LOCKED: {
    exit: "environment",
    advice: "Stop the other server of this volume first, or give this volume another --write-log.",
  },
  TRIVET_E_LOG_PLACE: {
    exit: "environment",
    advice: "Name a file on a tmpfs with --write-log, or do without by --write-log none.",
  },
  TRIVET_E_LOG_FOREIGN: {
    exit: "data",
    advice: "Put the right targets back, or move the log away to go on without it.",
  },
  TRIVET_E_LOG_CORRUPT: {
    exit: "decision",
    advice:
      "Look at it with trivet log dump; starting again goes on without it, and acknowledged writes may be missing.",
  },
  TRIVET_E_LOG_MISSING: {
    exit: "data",
    advice: "Name the file; a volume that was stopped in order has none.",
  },
  TRIVET_E_LOG_DAMAGED: {
    exit: "data",
    advice: "What can be read is shown; what was flushed is safe on the replicas.",
  },
  TRIVET_E_LOG_FORMAT: { exit: "data", advice: "Name a write log of trivet." },

  // The control socket
  TRIVET_E_NO_SERVER: {
    exit: "peer",
    advice: "Start the volume with trivet serve, or name its control socket with --control.",
  },
  TRIVET_E_CONTROL: {
    exit: "peer",
    advice: "Use one version of trivet for the server and this command.",
  },
  TRIVET_E_REFUSED: {
    exit: "peer",
    advice: "Look at trivet status and ask again when that has changed.",
  },

  // Requests to a volume that runs
  TRIVET_E_NOT_ACTIVE: {
    exit: "environment",
    advice: "Wait until the volume is active; trivet status says what it waits for.",
  },
  TRIVET_E_SCRUB_RUNNING: {
    exit: "environment",
    advice: "Wait for its end, or stop it first.",
  },
  TRIVET_E_HAND_OVER: {
    exit: "environment",
    advice: "The server that runs goes on serving; mend what is named, and try again.",
  },

  // The kernel's device
  TRIVET_E_NO_NBD: {
    exit: "environment",
    advice:
      "Load the kernel's module with modprobe nbd, and name it in /etc/modules-load.d for every start.",
  },
  TRIVET_E_DEVICE: { exit: "environment", advice: "The kernel's log (dmesg) may tell more." },
  TRIVET_E_DEVICE_BUSY: {
    exit: "environment",
    advice: "End what uses it first, or name another device.",
  },
  TRIVET_E_ATTACHED: {
    exit: "environment",
    advice: "Use that device, or detach it first: two devices of one volume destroy what is on it.",
  },
  TRIVET_E_NOT_ATTACHED: {
    exit: "environment",
    advice: "Attach it first, with trivet attach.",
  },
  TRIVET_E_BLOCK_SIZE: {
    exit: "data",
    advice: "Give the size that is named with --block-size, here and on every host.",
  },

  // NBD clients
  TRIVET_E_NBD_PROTOCOL: { exit: "peer", advice: "Use a client that speaks fixed newstyle NBD." },
  TRIVET_E_NBD_TIMEOUT: { exit: "peer", advice: "The client did not finish its handshake." },
  TRIVET_E_NBD_STALLED: {
    exit: "peer",
    advice: "The client stopped reading its answers; look whether it still runs.",
  },
} as const satisfies Record<string, { exit: ExitClass; advice: string }>;

export type FaultCode = keyof typeof FAULTS;

/** Exit statuses by class; systemd does not restart after `usage`, `superseded` and `decision`. */
export const EXIT_STATUS = {
  usage: 2,
  data: 3,
  environment: 4,
  peer: 5,
  io: 6,
  /** The work was done, but what came of it is not all sure. */
  doubtful: 7,
  superseded: 10,
  decision: 11,
} as const;
export type ExitClass = keyof typeof EXIT_STATUS;
/** An error of ours that no row names. */
export const EXIT_BUG = 70;

export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FaultCode;
  /** Negative errno of the system call behind it; 0 when there was none. */
  readonly errno: number;

  /** `detail` says what, where, and what was expected, without a final full stop. */
  constructor(code: FaultCode, detail: string, options?: ErrorOptions & { errno?: number }) {
    super(detail, options);
    this.code = code;
    this.errno = options?.errno ?? 0;
  }

  get exitStatus(): number {
    return EXIT_STATUS[FAULTS[this.code].exit];
  }

  /** The one line that users see. */
  get line(): string {
    return `${this.code}: ${this.message}. ${FAULTS[this.code].advice}`;
  }
}
