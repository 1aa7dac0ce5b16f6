import { createConnection, type Socket } from "node:net";

// A small NBD client written from the protocol alone, independent of src/nbd: the acceptance tests
// need one that remembers exactly what was acknowledged, request by request.

const IHAVEOPT = Buffer.from("IHAVEOPT");
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const FLAG_FUA = 1;

type Waiting = { length: number; resolve: (data: Buffer) => void; reject: (error: Error) => void };
type Where = { readonly port: number } | { readonly path: string };

/** The server answered with an NBD error. */
export class NbdError extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`NBD error ${errno}`);
    this.errno = errno;
  }
}

export class NbdClient {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly #socket: Socket;
  readonly #reader: Reader;
  readonly #waiting = new Map<bigint, Waiting>();
  #cookie = 0n;
  #broken: Error | undefined;

  private constructor(socket: Socket, reader: Reader, sizeBytes: number, flags: number) {
    this.#socket = socket;
    this.#reader = reader;
    this.sizeBytes = sizeBytes;
    this.flags = flags;
    void this.#receive();
  }

  static async connect(where: Where, name = ""): Promise<NbdClient> {
    const socket =
      "port" in where ? createConnection(where.port, "127.0.0.1") : createConnection(where.path);
    socket.setNoDelay(true);
    const reader = new Reader(socket);
    await reader.exactly(18);
    const data = Buffer.from(name);
    const option = Buffer.alloc(16);
    IHAVEOPT.copy(option);
    option.writeUInt32BE(1, 8);
    option.writeUInt32BE(data.length, 12);
    socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), option, data]));
    const answer = await reader.exactly(10);
    return new NbdClient(socket, reader, Number(answer.readBigUInt64BE(0)), answer.readUInt16BE(8));
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#request(0, 0, offset, length, length);
  }
  async write(offset: number, data: Buffer, fua = false): Promise<void> {
    await this.#request(1, fua ? FLAG_FUA : 0, offset, data.length, 0, data);
  }
  async flush(): Promise<void> {
    await this.#request(3, 0, 0, 0, 0);
  }
  close(): void {
    this.#socket.end(header(2, 0, 0n, 0, 0));
  }
  destroy(): void {
    this.#socket.destroy();
  }

  #request(
    command: number,
    flags: number,
    offset: number,
    length: number,
    answer: number,
    payload?: Buffer,
  ): Promise<Buffer> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const cookie = this.#cookie++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(cookie, { length: answer, resolve, reject });
      this.#socket.write(header(command, flags, cookie, offset, length));
      if (payload !== undefined) this.#socket.write(payload);
    });
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const reply = await this.#reader.exactly(16);
        if (reply.readUInt32BE(0) !== REPLY_MAGIC) throw new Error("reply magic is wrong");
        const cookie = reply.readBigUInt64BE(8);
        const waiting = this.#waiting.get(cookie);
        if (waiting === undefined) throw new Error(`reply to ${cookie}, which is not in flight`);
        this.#waiting.delete(cookie);
        const error = reply.readUInt32BE(4);
        if (error !== 0) waiting.reject(new NbdError(error));
        else waiting.resolve(await this.#reader.exactly(waiting.length));
      }
    } catch (error) {
      this.#broken = error as Error;
      for (const waiting of this.#waiting.values()) waiting.reject(this.#broken);
      this.#waiting.clear();
      this.#socket.destroy();
    }
  }
}

function header(
  command: number,
  flags: number,
  cookie: bigint,
  offset: number,
  length: number,
): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** Exact reads from a socket; rejects when it closes. */
class Reader {
  #pieces: Buffer[] = [];
  #have = 0;
  #want: { count: number; resolve: (data: Buffer) => void; reject: (e: Error) => void } | undefined;
  #closed: Error | undefined;

  constructor(socket: Socket) {
    socket.on("data", (piece) => {
      this.#pieces.push(piece);
      this.#have += piece.length;
      this.#serve();
    });
    const close = (error?: Error): void => {
      this.#closed ??= error ?? new Error("the server closed the connection");
      this.#want?.reject(this.#closed);
      this.#want = undefined;
    };
    socket.on("error", close);
    socket.on("close", () => close());
  }

  exactly(count: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#want = { count, resolve, reject };
      this.#serve();
      if (this.#want !== undefined && this.#closed !== undefined) {
        this.#want = undefined;
        reject(this.#closed);
      }
    });
  }
  #serve(): void {
    const want = this.#want;
    if (want === undefined || this.#have < want.count) return;
    this.#want = undefined;
    const all = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    this.#pieces = all.length > want.count ? [all.subarray(want.count)] : [];
    this.#have -= want.count;
    want.resolve(all.subarray(0, want.count));
  }
}
