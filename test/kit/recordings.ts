import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

// The conversations of test/golden (see its README), line by line.

export interface Line {
  /** Only on the first line. */
  readonly about?: string;
  readonly link?: number;
  readonly conn?: number;
  readonly dir?: "u2d" | "d2u";
  readonly ms?: number;
  readonly event?: "open" | "close" | "refused" | "nothing";
  readonly after_s?: number;
  readonly sent?: string;
  readonly msg?: string;
  readonly hex?: string;
  /** The frame had this many bytes; `hex` holds only the first. */
  readonly cut?: number;
}

export const GOLDEN = new URL("../../../test/golden/", import.meta.url);

const namesIn = (folder: string, ending: string): string[] =>
  readdirSync(new URL(folder, GOLDEN))
    .filter((name) => name.endsWith(ending))
    .map((name) => name.slice(0, -ending.length))
    .sort();

export const wireNames = (): string[] => namesIn("wire/", ".ndjson.gz");
export const rawNames = (): string[] => namesIn("raw/", ".ndjson");

const parse = (text: string): Line[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);

export const wireLines = (name: string): Line[] =>
  parse(gunzipSync(readFileSync(new URL(`wire/${name}.ndjson.gz`, GOLDEN))).toString());
export const rawLines = (name: string): Line[] =>
  parse(readFileSync(new URL(`raw/${name}.ndjson`, GOLDEN), "utf8"));

/** A frame written by hand: hex digits, white space, and comments from # to the end of the line. */
export const handFrame = (name: string): Buffer =>
  Buffer.from(
    readFileSync(new URL(`frames/${name}.hex`, GOLDEN), "utf8").replace(/#.*|\s+/g, ""),
    "hex",
  );
export const handFrameNames = (): string[] => namesIn("frames/", ".hex");
