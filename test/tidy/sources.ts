import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

/** The repository's root, seen from where compiled tests lie (dist/test/tidy). */
export const ROOT = join(import.meta.dirname, "../../..");

export const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** Paths below `folder`, relative to the root, sorted. */
export function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1))
    .sort();
}

export interface Source {
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
  /** Module names in import and export declarations and in import(). */
  readonly imports: readonly string[];
}

export function parse(path: string): Source {
  const text = read(path);
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  const imports = ts.preProcessFile(text, true, true).importedFiles.map((f) => f.fileName);
  return { path, text, tree, imports };
}

export function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}

export const lineOf = (source: Source, node: ts.Node): string =>
  `${source.path}:${source.tree.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
