import t from "tap";
import ts from "typescript";
import { filesBelow, lineOf, parse, type Source, visit } from "./sources.js";

/** The outside: only `host` and `app` know it. */
const OUTSIDE = new Set([
  "process",
  "console",
  "Date",
  "performance",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "fetch",
  "crypto",
  "Promise",
  "globalThis",
  "require",
]);

const isPure = (path: string): boolean => !/^src\/(host|app)\//.test(path);

/** Things that make a module depend on more than its events. */
function impurities(source: Source): string[] {
  const found: string[] = [];
  const note = (node: ts.Node, what: string) => found.push(`${lineOf(source, node)} ${what}`);
  visit(source.tree, (node) => {
    if (ts.isAwaitExpression(node)) note(node, "await");
    if (node.kind === ts.SyntaxKind.AsyncKeyword) note(node, "async");
    if (ts.isPropertyAccessExpression(node) && node.getText() === "Math.random") {
      note(node, "Math.random");
    }
    if (!ts.isIdentifier(node) || !OUTSIDE.has(node.text)) return;
    const { parent } = node;
    const isMember =
      (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
      (ts.isPropertyAssignment(parent) && parent.name === node) ||
      ts.isPropertySignature(parent) ||
      ts.isMethodSignature(parent) ||
      ts.isMethodDeclaration(parent) ||
      ts.isPropertyDeclaration(parent);
    if (!isMember) note(node, node.text);
  });
  return found;
}

t.test("outside host and app nothing has a clock, a promise, a process or chance", async (t) => {
  const paths = filesBelow("src", ".ts").filter(isPure);
  t.ok(paths.length > 10);
  t.same(
    paths.flatMap((path) => impurities(parse(path))),
    [],
  );
});

t.test("ports and wire tables hold no running state: no module-level let", async (t) => {
  const wrong: string[] = [];
  for (const path of filesBelow("src", ".ts").filter(isPure)) {
    const source = parse(path);
    for (const statement of source.tree.statements) {
      if (!ts.isVariableStatement(statement)) continue;
      if ((statement.declarationList.flags & ts.NodeFlags.Const) === 0) {
        wrong.push(lineOf(source, statement));
      }
    }
  }
  t.same(wrong, []);
});
