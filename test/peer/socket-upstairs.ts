import { connect, type Socket } from "node:net";
import { encode, type Message } from "../../src/crucible/messages.js";

/** A scripted upstairs over a real TCP connection. */
export class SocketUpstairs {
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #frames: Buffer[] = [];
  #wake: () => void = () => {};
  isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => this.#received(bytes));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.isClosed = true;
      this.#wake();
    });
  }
  static dial(host: string, port: number): Promise<SocketUpstairs> {
    return new Promise((done, fail) => {
      const socket = connect({ host, port, noDelay: true });
      socket.once("error", fail);
      socket.once("connect", () => done(new SocketUpstairs(socket)));
    });
  }

  say(message: Message): void {
    this.send(encode(message));
  }
  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }
  /** The next frame; undefined when the connection closed instead. */
  async next(): Promise<Buffer | undefined> {
    while (this.#frames.length === 0 && !this.isClosed)
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    return this.#frames.shift();
  }
  leave(): void {
    this.#socket.destroy();
  }

  #received(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= 8 && this.#rest.length >= this.#rest.readUInt32LE(0)) {
      const length = this.#rest.readUInt32LE(0);
      this.#frames.push(this.#rest.subarray(0, length));
      this.#rest = this.#rest.subarray(length);
    }
    this.#wake();
  }
}
