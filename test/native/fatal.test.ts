import { spawnSync } from "node:child_process";
import t from "tap";

const OPEN = new URL("../../src/host/open.js", import.meta.url).href;

function run(body: string): { status: number | null; signal: string | null; text: string } {
  const script = `
    import { openHost } from ${JSON.stringify(OPEN)};
    const host = openHost({ arenaBytes: 1 << 20, streamBytes: 1 << 20, engine: process.argv[1] });
    const quiet = { received: (at, end) => end - at, filled() {}, sent() {}, drained() {}, closed() {} };
    const listen = (handler) => host.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, (s) => s.start(handler));
    const dial = (listener, then) => host.dialer.dial({ host: "127.0.0.1", port: listener.port }, 5000, then);
    ${body}`;
  const result = spawnSync(process.execPath, ["--input-type=module", "-e", script, engine], {
    encoding: "utf8",
    timeout: 20_000,
  });
  return { status: result.status, signal: result.signal, text: result.stdout + result.stderr };
}
let engine = "ring";

for (const name of ["ring", "plain"])
  t.test(name, async (t) => {
    engine = name;
    t.test("an exception in a handler ends the process and is shown", async (t) => {
      const { status, signal, text } = run(`
        const listener = await listen({ ...quiet, received() { throw new Error("handler is broken"); } });
        dial(listener, (fault, stream) => { stream.start(quiet); stream.compose(10); });
        setTimeout(() => { console.log("still here"); process.exit(0); }, 5000);`);
      t.equal(signal, null);
      t.ok(status !== 0);
      t.ok(text.includes("handler is broken"), text);
      t.ok(!text.includes("still here"));
    });
    t.test("process.exit with operations in flight ends cleanly", async (t) => {
      const { status, signal, text } = run(`
        import fs from "node:fs";
        const path = "/tmp/trivet-fatal-" + process.pid;
        const file = fs.openSync(path, "w+");
        fs.unlinkSync(path);
        const at = host.arena.alloc(1 << 19);
        const listener = await listen(quiet);
        dial(listener, (fault, stream) => {
          stream.start(quiet);
          stream.receiveInto(at, 1 << 19);
          for (let i = 0; i < 200; i++) host.fileIo.write(file, 0, at, 1 << 19, { fileDone() {} }, i);
          setImmediate(() => process.exit(0));
        });`);
      t.equal(signal, null);
      t.equal(status, 0, text);
    });
    t.test(
      "closing from within a callback is safe, and the process then ends by itself",
      async (t) => {
        const { status, signal, text } = run(`
        const listener = await listen({ ...quiet, received(at, end) {
          host.close().then(() => console.log("closed", host.arena.bytes.length));
          return end - at;
        } });
        dial(listener, (fault, stream) => { stream.start(quiet); stream.compose(10); });`);
        t.equal(signal, null);
        t.equal(status, 0, text);
        t.ok(text.includes("closed 0"), "the memory is detached");
      },
    );
  });
