import { createConnection, type Socket } from "node:net";
import { Fault } from "../../base/fault.js";
import { cutFrame, makeFrame } from "../../control/frames.js";
import {
  ANSWER_LIMITS,
  type ControlCommand,
  makeRequest,
  REQUEST_LIMITS,
  readAnswer,
} from "../../control/protocol.js";

/** A server answers from its event loop; one that takes longer hangs. */
const ANSWER_MS_MAX = 10_000;

/** One connection to a server's control socket. One request at a time. */
export class ControlClient {
  readonly path: string;
  readonly #socket: Socket;
  #nextId = 1;
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #fault: Fault | undefined;

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#fault ??= new Fault(
        "TRIVET_E_CONNECTION",
        `the server at ${path} closed the connection`,
      );
      this.#wake?.();
    });
  }

  /** Rejects with TRIVET_E_NO_SERVER when nobody listens there, TRIVET_E_PERMISSION when we may not ask. */
  static async connect(path: string): Promise<ControlClient> {
    const socket = createConnection({ path });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (error: NodeJS.ErrnoException) => reject(connectFault(path, error)));
    });
    socket.removeAllListeners("error");
    return new ControlClient(path, socket);
  }

  /** Resolves with the result; rejects with the server's Fault. */
  async ask(command: ControlCommand): Promise<unknown> {
    const id = this.#nextId++;
    this.#socket.write(makeFrame(makeRequest({ id, command }), REQUEST_LIMITS));
    const timer = setTimeout(() => {
      this.#fault ??= new Fault(
        "TRIVET_E_TIMEOUT",
        `the server at ${this.path} did not answer within ${ANSWER_MS_MAX / 1000} s`,
      );
      this.#wake?.();
    }, ANSWER_MS_MAX);
    try {
      for (;;) {
        const { usedBytes, value } = cutFrame(this.#bytes, ANSWER_LIMITS);
        if (usedBytes > 0) {
          this.#bytes = this.#bytes.subarray(usedBytes);
          return readAnswer(value, id);
        }
        if (this.#fault !== undefined) throw this.#fault;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

function connectFault(path: string, error: NodeJS.ErrnoException): Fault {
  const options = { cause: error, errno: error.errno ?? 0 };
  switch (error.code) {
    case "EACCES":
    case "EPERM":
      return new Fault(
        "TRIVET_E_PERMISSION",
        `${path} belongs to another user, who runs the server`,
        options,
      );
    case "ENOENT":
      return new Fault("TRIVET_E_NO_SERVER", `there is no control socket at ${path}`, options);
    default:
      return new Fault(
        "TRIVET_E_NO_SERVER",
        `nobody answers at ${path} (${error.code ?? error.message})`,
        options,
      );
  }
}
