import { hostname } from "node:os";
import { pino } from "pino";
import type { Level, NoteFields, Notes } from "../ports/notes.js";

/**
 * Where notes go: JSON lines with the field names of the Elastic Common Schema when a machine reads
 * them, readable text on a terminal. It never blocks the loop on a slow reader: what does not fit into
 * BACKLOG_BYTES is dropped. Nothing secret is ever put into a note, so nothing is filtered here.
 */
export interface Log {
  readonly notes: Notes;
  /** Adds fields to every note, for example the region that a downstairs serves. */
  with(fields: NoteFields): Notes;
  /** Resolves when everything is written out, or its reader does not read; call it last. */
  flush(): Promise<void>;
}

export interface LogOptions {
  readonly level: Level;
  readonly format: "json" | "text";
  /** 1 or 2. */
  readonly file: number;
  /** Name and version of the service, for the JSON form. */
  readonly service: string;
  readonly version: string;
}

const BACKLOG_BYTES = 1 << 20;
const FLUSH_MS_MAX = 1_000;
const LEVELS: readonly Level[] = ["trace", "debug", "info", "warn", "error"];

export const isLevel = (text: string): text is Level =>
  (LEVELS as readonly string[]).includes(text);

export function openLog(options: LogOptions): Log {
  const sink = openSink(options.file);
  const write = options.format === "json" ? jsonNotes(options, sink) : textNotes(options, sink);
  return {
    notes: write,
    with: (fields) => (level, event, text, more) =>
      write(level, event, text, more === undefined ? fields : { ...fields, ...more }),
    flush: () => sink.flush(),
  };
}

interface Sink {
  write(line: string): void;
  flush(): Promise<void>;
}

/** Lines in order, written by the thread pool. */
function openSink(file: number): Sink {
  const out = pino.destination({ fd: file, sync: false, maxLength: BACKLOG_BYTES });
  let isBusy = false;
  let whenIdle: (() => void) | undefined;
  const idle = (): void => {
    isBusy = false;
    whenIdle?.();
  };
  out.on("drain", idle);
  // A reader that went away (EPIPE) must not end a server.
  out.on("error", idle);
  return {
    write(line) {
      isBusy = true;
      out.write(line);
    },
    flush: () =>
      new Promise((resolve) => {
        if (!isBusy) return resolve();
        const patience = setTimeout(resolve, FLUSH_MS_MAX);
        whenIdle = () => {
          clearTimeout(patience);
          resolve();
        };
      }),
  };
}

/** Fields whose meaning the schema has a name for. */
const ECS: Readonly<Record<string, string>> = {
  code: "error.code",
  peer: "client.address",
  path: "file.path",
};

function jsonNotes(options: LogOptions, sink: Sink): Notes {
  const logger = pino(
    {
      level: options.level,
      messageKey: "message",
      timestamp: () => `,"@timestamp":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ "log.level": label }) },
      base: {
        "ecs.version": "8.11.0",
        "service.name": options.service,
        "service.version": options.version,
        "process.pid": process.pid,
        "host.hostname": hostname(),
      },
    },
    sink,
  );
  return (level, event, text, fields) => {
    if (!logger.isLevelEnabled(level)) return;
    const record: Record<string, unknown> = { "event.action": event };
    for (const [name, value] of Object.entries(fields ?? {})) {
      record[ECS[name] ?? `trivet.${name}`] = typeof value === "bigint" ? `${value}` : value;
    }
    logger[level](record, text);
  };
}

function textNotes(options: LogOptions, sink: Sink): Notes {
  const lowest = LEVELS.indexOf(options.level);
  return (level, _event, text, fields) => {
    if (LEVELS.indexOf(level) < lowest) return;
    const extra = Object.entries(fields ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => ` ${name}=${value}`)
      .join("");
    const time = new Date().toISOString().slice(11, 23);
    const mark = level === "info" ? "" : `${level}: `;
    sink.write(`${time} ${mark}${text}${extra}\n`);
  };
}
