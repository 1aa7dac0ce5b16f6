import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

let version: string | undefined;

/** From package.json, which is found from where the compiled program lies (dist/src/app). */
export function programVersion(): string {
  if (version === undefined) {
    const path = fileURLToPath(new URL("../../../package.json", import.meta.url));
    version = (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
  }
  return version;
}
