import type { Uuid } from "../base/ids.js";
import type { Answer, Request } from "./answer.js";

// The repair HTTP interface, as a function from request to answer (downstairs reference 7.1). Status codes,
// bodies and their texts are those of the original, whose repair client reads some of them.
//
// The only paths that it ever names are `pathOf` an extent number with one of four fixed suffixes:
// nothing else in the file system can be reached from here, whatever the request says.

/** The region behind the interface. */
export interface RepairSource {
  /** What region.json says, as it is sent. */
  readonly info: object;
  readonly extentCount: number;
  readonly readOnly: boolean;
  isClosed(extent: number): boolean;
  /** Path of an extent's data file, for any u32. */
  pathOf(extent: number): string;
  /** Somebody asked for the job queues to be logged. */
  work(): void;
}

export type FileKind = "missing" | "file" | "directory" | "link" | "other";

/** What a path is, not following a link at its end. */
export type Inspect = (path: string, then: (kind: FileKind) => void) => void;

/** Suffix of the file by its name in a URL. */
const SUFFIXES = { data: "", db: ".db", db_shm: ".db-shm", db_wal: ".db-wal" } as const;
type FileType = keyof typeof SUFFIXES;
const TYPES = Object.keys(SUFFIXES) as FileType[];

const NO_SUCH_FILE = "No such file or directory (os error 2)";

export class RepairRoutes {
  readonly #source: RepairSource;
  readonly #inspect: Inspect;
  readonly #requestId: () => Uuid;

  constructor(source: RepairSource, inspect: Inspect, requestId: () => Uuid) {
    this.#source = source;
    this.#inspect = inspect;
    this.#requestId = requestId;
  }

  /** Answers exactly once, now or later. */
  handle(request: Request, then: (answer: Answer) => void): void {
    const parts = segments(request.target);
    if (parts === undefined) {
      then(this.#error(400, "bad URL path"));
      return;
    }
    const route = this.#route(parts);
    if (route === undefined) {
      then(this.#error(404, "Not Found"));
      return;
    }
    if (request.method !== "GET") {
      then(this.#error(405, "Method Not Allowed", { allow: "GET" }));
      return;
    }
    route(then);
  }

  #route(parts: readonly string[]): ((then: (answer: Answer) => void) => void) | undefined {
    const [first, second = "", third = ""] = parts;
    const source = this.#source;
    if (parts.length === 1) {
      if (first === "region-info") return (then) => then(json(source.info));
      if (first === "region-mode") return (then) => then(json(source.readOnly));
      if (first === "work")
        return (then) => {
          source.work();
          then(json(true));
        };
    }
    if (parts.length !== 3) return undefined;
    if (first === "extent" && third === "files")
      return (then) => this.#withExtent(second, then, (extent) => this.#files(extent, then));
    if (first === "extent" && third === "repair-ready")
      return (then) => this.#withExtent(second, then, (extent) => then(this.#ready(extent)));
    if (first === "newextent")
      return (then) => this.#withExtent(second, then, (extent) => this.#file(extent, third, then));
    return undefined;
  }

  #withExtent(text: string, then: (answer: Answer) => void, use: (extent: number) => void): void {
    const extent = /^\+?\d{1,20}$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY;
    if (extent <= 0xffff_ffff) {
      use(extent);
      return;
    }
    then(this.#error(400, `bad parameter in URL path: unable to parse '${text}' as u32`));
  }

  #files(extent: number, then: (answer: Answer) => void): void {
    const path = this.#source.pathOf(extent);
    const slash = path.lastIndexOf("/");
    const names: string[] = [];
    const look = (index: number): void => {
      const type = TYPES[index];
      if (type === undefined) {
        then(json(names));
        return;
      }
      this.#inspect(path + SUFFIXES[type], (kind) => {
        if (kind !== "missing") names.push(path.slice(slash + 1) + SUFFIXES[type]);
        else if (type === "data") return then(this.#error(400, "EBADF"));
        look(index + 1);
      });
    };
    this.#inspect(path.slice(0, slash), (kind) => {
      if (kind === "directory") look(0);
      else then(this.#error(400, "EBADF"));
    });
  }

  #ready(extent: number): Answer {
    const { readOnly, extentCount } = this.#source;
    if (readOnly) return json(true);
    if (extent < extentCount) return json(this.#source.isClosed(extent));
    return this.#error(400, `extent ${extent} of ${extentCount}`);
  }

  #file(extent: number, type: string, then: (answer: Answer) => void): void {
    if (!Object.hasOwn(SUFFIXES, type)) {
      const known = TYPES.map((name) => `\`${name}\``).join(", ");
      const message = `unknown variant \`${type}\`, expected one of ${known}`;
      then(this.#error(400, `bad parameter in URL path: ${message}`));
      return;
    }
    const path = this.#source.pathOf(extent) + SUFFIXES[type as FileType];
    this.#inspect(path, (kind) => {
      if (kind === "file") return then({ file: path });
      if (kind === "missing")
        return then(this.#error(400, `Failed to get "${path}" metadata: ${NO_SUCH_FILE}`));
      if (kind === "link") return then(this.#error(400, "File is symlink"));
      then(this.#error(400, `Expected a file, found a ${kind === "directory" ? kind : "device"}`));
    });
  }

  #error(status: number, message: string, headers: Record<string, string> = {}): Answer {
    const body = { request_id: this.#requestId(), message };
    return {
      status,
      headers: { "content-type": "application/json", ...headers },
      text: JSON.stringify(body, null, 2),
    };
  }
}

function json(value: unknown): Answer {
  return {
    status: 200,
    headers: { "content-type": "application/json" },
    text: JSON.stringify(value),
  };
}

/** Empty segments do not count, as in the original; undefined when an escape is broken. */
function segments(target: string): readonly string[] | undefined {
  const path = target.split("?", 1)[0]!;
  try {
    return path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return undefined;
  }
}
