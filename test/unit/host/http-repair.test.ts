import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { HttpRepairClient } from "../../../src/host/http-client.js";
import { serveHttp } from "../../../src/host/http-server.js";

t.test("extent files of any size arrive whole", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "trivet-http-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const source = join(dir, "source");
  const server = await serveHttp({ host: "127.0.0.1", port: 0 }, (_, then) =>
    then({ file: source }),
  );
  t.teardown(() => server.close());
  // Around the sizes at which streams of Node hand over, pause and resume.
  for (const size of [1, 65_535, 65_536, 65_537, 262_145, 600_000, 5_000_000]) {
    const bytes = Buffer.alloc(size, `${size},`);
    writeFileSync(source, bytes);
    const target = join(dir, `${size}`);
    const client = new HttpRepairClient(() => size);
    const fault = await new Promise((done) => {
      client.fetch(server.address, 0, "data", target, done);
    });
    t.equal(fault, null, `${size} bytes are fetched`);
    t.ok(readFileSync(target).equals(bytes), `${size} bytes are the same`);
  }
});
