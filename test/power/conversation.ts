import { decode, type Message } from "../../src/crucible/messages.js";
import { type Call, Kind, type Moment } from "./recording.js";

/** One connection of the recorded program, put together from what it received and sent. */
export class Conversation {
  #heard: Buffer = Buffer.alloc(0);
  #said: Buffer = Buffer.alloc(0);

  heard(bytes: Buffer): Message[] {
    const [messages, rest] = split(Buffer.concat([this.#heard, bytes]));
    this.#heard = rest;
    return messages;
  }
  said(bytes: Buffer): Message[] {
    const [messages, rest] = split(Buffer.concat([this.#said, bytes]));
    this.#said = rest;
    return messages;
  }
}

function split(bytes: Buffer): [Message[], Buffer] {
  const messages: Message[] = [];
  let at = 0;
  while (bytes.length - at >= 8 && bytes.length - at >= bytes.readUInt32LE(at)) {
    const end = at + bytes.readUInt32LE(at);
    messages.push(decode(bytes.subarray(at, end)));
    at = end;
  }
  return [messages, Buffer.from(bytes.subarray(at))];
}

/** Messages in the order in which they came and went. What is sent counts from the moment when sending begins. */
export class Conversations {
  readonly #open = new Map<string, Conversation>();

  /** `null`: the connection has ended. */
  apply(
    { call, isEnd }: Moment,
    visit: (connection: Conversation, message: Message | null, said: boolean) => void,
  ): void {
    if (call.kind === Kind.receive) this.#each(call, call.data, false, visit);
    // Bytes that the kernel did not take are sent again by another call.
    else if (call.kind === Kind.send && !isEnd && call.result > 0)
      this.#each(call, call.data.subarray(0, call.result), true, visit);
    else if (call.kind === Kind.close) this.#end(`${call.process}.${call.fd}`, visit);
    else if (call.kind === Kind.marker && call.path.startsWith("exit "))
      for (const name of [...this.#open.keys()])
        if (name.startsWith(`${call.path.slice(5)}.`)) this.#end(name, visit);
  }
  #each(
    call: Call,
    bytes: Buffer,
    said: boolean,
    visit: (connection: Conversation, message: Message | null, said: boolean) => void,
  ): void {
    const name = `${call.process}.${call.fd}`;
    const connection = this.#open.get(name) ?? new Conversation();
    this.#open.set(name, connection);
    for (const message of said ? connection.said(bytes) : connection.heard(bytes))
      visit(connection, message, said);
  }
  #end(
    name: string,
    visit: (connection: Conversation, message: Message | null, said: boolean) => void,
  ): void {
    const connection = this.#open.get(name);
    this.#open.delete(name);
    if (connection !== undefined) visit(connection, null, false);
  }
}
