import { type FileHandle, open } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { Fault } from "../base/fault.js";
import { REPAIR_IDLE_MS, REPAIR_JSON_BYTES_MAX } from "../base/limits.js";
import type { Then } from "../ports/files.js";
import type { Address } from "../ports/stream.js";

/**
 * Client of another downstairs' repair server. Every answer is bounded before it is read: JSON by a
 * small limit, a file by the size that an extent file of this region has. A server that sends nothing for
 * `idleMs` is given up; a slow one may take as long as it needs.
 */
export class HttpRepairClient {
  readonly #fileBytes: () => number;
  readonly #idleMs: number;

  /** `fileBytes`: the exact size of an extent file, asked when one is about to come. */
  constructor(fileBytes: () => number, idleMs: number = REPAIR_IDLE_MS) {
    this.#fileBytes = fileBytes;
    this.#idleMs = idleMs;
  }

  files(
    source: Address,
    extent: number,
    then: (fault: Fault | null, names: readonly string[]) => void,
  ): void {
    this.#json(source, `/extent/${extent}/files`, (fault, value) => {
      if (fault !== null) return then(fault, []);
      const names = value as string[];
      if (Array.isArray(value) && value.length <= 4 && value.every((n) => typeof n === "string"))
        return then(null, names);
      then(wrong(source, `/extent/${extent}/files`, "is not a list of at most four names"), []);
    });
  }

  ready(
    source: Address,
    extent: number,
    then: (fault: Fault | null, ready: boolean) => void,
  ): void {
    this.#boolean(source, `/extent/${extent}/repair-ready`, then);
  }

  /** Whether the source runs read-only. */
  readOnly(source: Address, then: (fault: Fault | null, readOnly: boolean) => void): void {
    this.#boolean(source, "/region-mode", then);
  }

  /** The source's region.json as it came, not checked. */
  regionInfo(source: Address, then: (fault: Fault | null, text: string) => void): void {
    this.#text(source, "/region-info", then);
  }

  /** Only extents of one file are copied, so that only "data" has a size that is known. */
  fetch(
    source: Address,
    extent: number,
    type: "data" | "db" | "db_shm" | "db_wal",
    path: string,
    then: Then,
  ): void {
    const target = `/newextent/${extent}/${type}`;
    if (type !== "data")
      return void queueMicrotask(() => then(wrong(source, target, "is part of an old extent")));
    this.#get(source, target)
      .then((answer) => this.#store(answer, path, source, target))
      .then(
        () => then(null),
        (error) => then(asFault(error, source, target)),
      );
  }

  async #store(
    answer: IncomingMessage,
    path: string,
    source: Address,
    target: string,
  ): Promise<void> {
    const want = this.#fileBytes();
    const said = answer.headers["content-length"];
    if (said !== undefined && Number(said) !== want) {
      answer.destroy();
      throw wrong(source, target, `has ${said} bytes, ${want} were expected`);
    }
    const file = await open(path, "wx").catch((error) => {
      answer.destroy();
      throw error;
    });
    try {
      let got = 0;
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        if (got + chunk.length > want) throw wrong(source, target, `is longer than ${want} bytes`);
        await writeAll(file, chunk, got);
        got += chunk.length;
      }
      if (got !== want) throw wrong(source, target, `has ${got} bytes, ${want} were expected`);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  #boolean(
    source: Address,
    target: string,
    then: (fault: Fault | null, value: boolean) => void,
  ): void {
    this.#json(source, target, (fault, value) => {
      if (fault !== null) return then(fault, false);
      if (typeof value === "boolean") return then(null, value);
      then(wrong(source, target, "is neither true nor false"), false);
    });
  }

  #json(
    source: Address,
    target: string,
    then: (fault: Fault | null, value: unknown) => void,
  ): void {
    this.#text(source, target, (fault, text) => {
      if (fault !== null) return then(fault, undefined);
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch (error) {
        return then(asFault(error, source, target), undefined);
      }
      then(null, value);
    });
  }
  #text(source: Address, target: string, then: (fault: Fault | null, text: string) => void): void {
    this.#get(source, target)
      .then((answer) => readText(answer, REPAIR_JSON_BYTES_MAX))
      .then(
        (text) => then(null, text),
        (error) => then(asFault(error, source, target), ""),
      );
  }

  /** Resolves to an answer of status 200 whose body was not read yet. */
  #get(source: Address, target: string): Promise<IncomingMessage> {
    return new Promise((done, fail) => {
      const { host, port } = source;
      // The HTTP client takes port 0 for its default.
      if (port === 0) return fail(wrong(source, target, ": port 0"));
      const asked = request({ host, port, path: target, agent: false, timeout: this.#idleMs });
      asked.on("timeout", () =>
        asked.destroy(wrong(source, target, `: nothing came for ${this.#idleMs / 1000} s`)),
      );
      asked.on("error", fail);
      asked.on("response", (answer) => {
        if (answer.statusCode === 200) return done(answer);
        readText(answer, 1024).then(
          (text) => fail(wrong(source, target, `: status ${answer.statusCode}, ${text}`)),
          fail,
        );
      });
      asked.end();
    });
  }
}

/** Also when the system takes it in pieces. */
async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

/** Fails when there is more than `max`. */
async function readText(answer: IncomingMessage, max: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > max) throw new Error(`the answer is longer than ${max} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function wrong(source: Address, target: string, what: string): Fault {
  const host = source.host.includes(":") ? `[${source.host}]` : source.host;
  const gap = what.startsWith(":") ? "" : " ";
  return new Fault("TRIVET_E_REPAIR", `http://${host}:${source.port}${target}${gap}${what}`);
}

function asFault(error: unknown, source: Address, target: string): Fault {
  if (error instanceof Fault) return error;
  const text = error instanceof Error ? error.message : String(error);
  const fault = wrong(source, target, `: ${text}`);
  fault.cause = error;
  return fault;
}
