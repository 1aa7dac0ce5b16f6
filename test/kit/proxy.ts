import { createConnection, createServer, type Server, type Socket } from "node:net";

/**
 * What a network, or the program behind it, does to a connection: `open` passes everything on; `stalled` nothing; `pingsOnly` passes what
 * the client says, and of what comes back only the answers to pings.
 */
export type ProxyMode = "open" | "stalled" | "pingsOnly";

const TICK_MS = 20;
/** More waiting than this, and nothing more is taken from that side: its sender fills up, as with a slow link. */
const QUEUE_BYTES = 64 * 1024;
/** Crucible frames: length and tag, both u32, little-endian; tag 10 answers a ping. */
const HEAD_BYTES = 8;
const IMOK = 10;

/** A TCP proxy on loopback that can be made slow, or to hang, while connections are open. */
export class TestProxy {
  mode: ProxyMode = "open";
  /** Each way, each connection. */
  bytesPerSecond = Number.POSITIVE_INFINITY;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  readonly #timer: NodeJS.Timeout;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    server.on("connection", (client) => {
      const target = createConnection({ port: targetPort, host: "127.0.0.1" });
      const pair = new Pair(this, client, target, () => this.#pairs.delete(pair));
      this.#pairs.add(pair);
    });
    this.#timer = setInterval(() => {
      for (const pair of this.#pairs) pair.move();
    }, TICK_MS);
  }

  /** On any free port. */
  static async open(targetPort: number): Promise<TestProxy> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    return new TestProxy(server, targetPort);
  }
  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }
  close(): void {
    clearInterval(this.#timer);
    this.#server.close();
    for (const pair of this.#pairs) pair.end();
  }
}

class Pair {
  readonly #up: Way;
  readonly #down: Way;
  readonly #sockets: readonly Socket[];
  readonly #ended: () => void;

  constructor(proxy: TestProxy, client: Socket, target: Socket, ended: () => void) {
    this.#up = new Way(proxy, client, target, false);
    this.#down = new Way(proxy, target, client, true);
    this.#sockets = [client, target];
    this.#ended = ended;
    for (const socket of this.#sockets) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => this.end());
    }
  }
  move(): void {
    this.#up.move();
    this.#down.move();
  }
  end(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#ended();
  }
}

class Way {
  readonly #proxy: TestProxy;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #isReply: boolean;
  #queue: Buffer = Buffer.alloc(0);
  /** Of what is passed on: bytes of the frame at hand that are still to come, so that a filter begins at a frame. */
  #frameLeft = 0;

  constructor(proxy: TestProxy, from: Socket, to: Socket, isReply: boolean) {
    this.#proxy = proxy;
    this.#from = from;
    this.#to = to;
    this.#isReply = isReply;
    from.on("data", (chunk: Buffer) => {
      this.#queue = Buffer.concat([this.#queue, chunk]);
      if (proxy.mode === "open" && proxy.bytesPerSecond === Number.POSITIVE_INFINITY) this.move();
      else if (this.#queue.length > QUEUE_BYTES) from.pause();
    });
  }

  move(): void {
    const { mode, bytesPerSecond } = this.#proxy;
    if (mode === "stalled") return;
    const most = Math.min(this.#queue.length, Math.ceil((bytesPerSecond * TICK_MS) / 1000));
    if (this.#isReply) this.#passFrames(most, mode === "pingsOnly");
    else this.#pass(most);
    if (this.#queue.length <= QUEUE_BYTES) this.#from.resume();
  }
  #pass(length: number): void {
    if (length > 0) this.#to.write(this.#queue.subarray(0, length));
    this.#queue = this.#queue.subarray(length);
  }
  #passFrames(most: number, onlyPings: boolean): void {
    let left = most;
    while (left > 0) {
      if (this.#frameLeft === 0) {
        if (this.#queue.length < HEAD_BYTES) return;
        const length = this.#queue.readUInt32LE(0);
        if (onlyPings && this.#queue.readUInt32LE(4) !== IMOK) {
          if (this.#queue.length < length) return;
          this.#queue = this.#queue.subarray(length);
          left -= length;
          continue;
        }
        this.#frameLeft = length;
      }
      const part = Math.min(left, this.#frameLeft, this.#queue.length);
      if (part === 0) return;
      this.#pass(part);
      this.#frameLeft -= part;
      left -= part;
    }
  }
}
