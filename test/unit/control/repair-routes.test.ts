import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import type { Answer } from "../../../src/control/answer.js";
import { type FileKind, RepairRoutes } from "../../../src/control/repair-routes.js";

const ID = "12345678-1111-4222-8333-000000000000" as Uuid;

function routes(
  kinds: Readonly<Record<string, FileKind>>,
  readOnly = false,
): { ask: (target: string, method?: string) => Answer; work: () => number; looked: string[] } {
  let asked = 0;
  const looked: string[] = [];
  const table = new RepairRoutes(
    {
      info: { uuid: "u" },
      extentCount: 5000,
      readOnly,
      isClosed: (extent) => extent === 4097,
      pathOf: (extent) => `/r/00/${Math.floor(extent / 4096)}/${extent % 4096}`,
      work: () => {
        asked += 1;
      },
    },
    (path, then) => {
      looked.push(path);
      then(kinds[path] ?? "missing");
    },
    () => ID,
  );
  const ask = (target: string, method = "GET"): Answer => {
    const answers: Answer[] = [];
    table.handle({ method, target }, (answer) => answers.push(answer));
    if (answers.length !== 1) throw new Error(`${answers.length} answers to ${target}`);
    return answers[0]!;
  };
  return { ask, work: () => asked, looked };
}
const text = (answer: Answer): string => ("file" in answer ? answer.file : answer.text);
const status = (answer: Answer): number => ("file" in answer ? 200 : answer.status);

t.test("files of an extent, in the order of their kinds", async (t) => {
  const { ask } = routes({
    "/r/00/1": "directory",
    "/r/00/1/1": "file",
    "/r/00/1/1.db-wal": "file",
    "/r/00/1/1.db": "file",
    "/r/00/1/2.db": "file",
    "/r/00/0": "link",
    "/r/00/0/3": "file",
  });
  t.equal(text(ask("/extent/4097/files")), '["1","1.db","1.db-wal"]');
  t.equal(status(ask("/extent/4098/files")), 400, "without its data file");
  t.equal(status(ask("/extent/3/files")), 400, "in a directory that is a link");
});

t.test("one file, and what is none", async (t) => {
  const { ask, looked } = routes({
    "/r/00/0/7": "file",
    "/r/00/0/8": "other",
    "/r/00/0/7.db-shm": "link",
  });
  t.same(ask("/newextent/7/data"), { file: "/r/00/0/7" });
  t.same(ask("/newextent/+7/data"), { file: "/r/00/0/7" }, "a number as the original reads it");
  t.equal(status(ask("/newextent/8/data")), 400);
  t.equal(status(ask("/newextent/7/db_shm")), 400);
  t.equal(status(ask("/newextent/7/db-shm")), 400, "URLs have underscores");
  t.equal(status(ask("/newextent/7/constructor")), 400);
  looked.splice(0);
  for (const eid of ["", "-1", "1.5", "0x7", "7 ", "%2e%2e", "4294967296", "1e3", "٧"])
    t.ok([400, 404].includes(status(ask(`/newextent/${eid}/data`))), eid);
  t.same(looked, [], "nothing was looked for");
});

t.test("whether an extent may be copied", async (t) => {
  const { ask } = routes({});
  t.equal(text(ask("/extent/4097/repair-ready")), "true");
  t.equal(text(ask("/extent/0/repair-ready")), "false");
  t.equal(status(ask("/extent/5000/repair-ready")), 400);
  t.equal(text(routes({}, true).ask("/extent/0/repair-ready")), "true", "read-only: always");
});

t.test("methods, slashes, queries, unknown paths", async (t) => {
  const { ask, work } = routes({});
  t.equal(text(ask("//region-info///?a=/b")), '{"uuid":"u"}');
  t.equal(text(ask("/work")), "true");
  t.equal(work(), 1);
  const refused = ask("/region-mode", "DELETE");
  t.equal(status(refused), 405);
  t.equal("headers" in refused && refused.headers.allow, "GET");
  t.equal(status(ask("/nowhere", "POST")), 404);
  t.equal(status(ask("/")), 404);
  t.equal(status(ask("/extent/%E0%A4%A/files")), 400, "a broken escape");
  t.same(JSON.parse(text(ask("/x"))), { request_id: ID, message: "Not Found" });
});
