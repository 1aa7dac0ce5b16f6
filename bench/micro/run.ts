// One micro suite by name, in a process of its own.
const SUITES = ["codec", "hash", "job-table", "journal", "seal"];
const name = process.argv[2] ?? "";
if (!SUITES.includes(name)) {
  process.stderr.write(`npm run bench -- NAME, where NAME is one of: ${SUITES.join(", ")}\n`);
  process.exit(2);
}
await import(new URL(`./${name}.js`, import.meta.url).href);

export {};
