import { constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { Fault } from "../base/fault.js";
import { HTTP_CONNECTIONS_MAX, REPAIR_IDLE_MS } from "../base/limits.js";
import type { Address } from "../ports/stream.js";

// HTTP/1.1 over node:http: sends the answers of a route table. It decides nothing but how files are
// opened (never through a link) and how long a client may be idle.

export type HttpAnswer =
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly text: string;
    }
  | { readonly file: string };

export type HttpHandler = (
  request: { readonly method: string; readonly target: string },
  then: (answer: HttpAnswer) => void,
) => void;

export interface HttpServer {
  /** What it is bound to. */
  readonly address: Address;
  /** Ends every connection. */
  close(): Promise<void>;
}

/** Larger request bodies end the connection; no route reads one. */
const BODY_BYTES_MAX = 1024;

export async function serveHttp(at: Address, handler: HttpHandler): Promise<HttpServer> {
  const server = createServer({ requestTimeout: REPAIR_IDLE_MS, headersTimeout: REPAIR_IDLE_MS });
  server.maxConnections = HTTP_CONNECTIONS_MAX;
  server.timeout = REPAIR_IDLE_MS * 2;
  server.on("request", (request, response) => receive(request, response, handler));
  server.on("clientError", (_, socket) => socket.destroy());
  await listen(server, at);
  const bound = server.address() as AddressInfo;
  return {
    address: { host: bound.address, port: bound.port },
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, at: Address): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const inUse = error.code === "EADDRINUSE";
      const where = at.host.includes(":") ? `[${at.host}]:${at.port}` : `${at.host}:${at.port}`;
      fail(
        new Fault(
          inUse ? "TRIVET_E_ADDRESS_IN_USE" : "TRIVET_E_LISTEN",
          `cannot listen for HTTP on ${where} (${error.code ?? error.message})`,
          { cause: error },
        ),
      );
    });
    server.listen(at.port, at.host, () => {
      server.removeAllListeners("error");
      // Accepting can fail later (no descriptors); the listener stays.
      server.on("error", () => {});
      done();
    });
  });
}

function receive(request: IncomingMessage, response: ServerResponse, handler: HttpHandler): void {
  let body = 0;
  request.on("data", (chunk: Buffer) => {
    body += chunk.length;
    if (body > BODY_BYTES_MAX) request.destroy();
  });
  request.on("error", () => {});
  response.on("error", () => {});
  handler({ method: request.method ?? "", target: request.url ?? "" }, (answer) => {
    if ("file" in answer) {
      sendFile(answer.file, response).catch(() => response.destroy());
      return;
    }
    const text = Buffer.from(answer.text);
    response.writeHead(answer.status, { ...answer.headers, "content-length": text.length });
    response.end(request.method === "HEAD" ? undefined : text);
  });
}

/** A file that ends early, or cannot be opened, breaks the connection: half a file must not look whole. */
async function sendFile(path: string, response: ServerResponse): Promise<void> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const { size } = await file.stat();
    response.writeHead(200, {
      "content-type": "application/octet-stream",
      "content-length": size,
    });
    if (size === 0) return void response.end();
    const content = file.createReadStream({
      autoClose: false,
      start: 0,
      end: size - 1,
      highWaterMark: 256 * 1024,
    });
    await pipeline(content, response);
  } finally {
    await file?.close();
  }
}

/** What a path is, for route tables. */
export function inspectPath(
  path: string,
  then: (kind: "missing" | "file" | "directory" | "link" | "other") => void,
): void {
  lstat(path).then(
    (found) => {
      if (found.isSymbolicLink()) return then("link");
      if (found.isDirectory()) return then("directory");
      then(found.isFile() ? "file" : "other");
    },
    () => then("missing"),
  );
}
