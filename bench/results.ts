import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

const FOLDER = join("bench", "results");

/** Keeps rows of today's measurement `name` as JSON lines, the machine and `about` in the first, and says where. */
export function keepRows(name: string, about: object, rows: readonly object[]): void {
  mkdirSync(FOLDER, { recursive: true });
  const file = join(FOLDER, `${new Date().toISOString().slice(0, 10)}-${name}.jsonl`);
  const [cpu] = cpus();
  const machine = { node: process.version, cpu: cpu?.model, cores: cpus().length };
  const lines = [{ ...machine, ...about }, ...rows].map((row) => JSON.stringify(row));
  writeFileSync(file, `${lines.join("\n")}\n`);
  console.log(`kept in ${file}`);
}
