import t from "tap";
import { passedSockets } from "../../../src/app/serve/passed-sockets.js";
import { Fault } from "../../../src/base/fault.js";

t.test("sockets passed by a service manager", async (t) => {
  const rows: [NodeJS.ProcessEnv, number[]][] = [
    [{}, []],
    [{ LISTEN_PID: "77", LISTEN_FDS: "1" }, [3]],
    [{ LISTEN_PID: "77", LISTEN_FDS: "3", LISTEN_FDNAMES: "a:b:c" }, [3, 4, 5]],
    [{ LISTEN_PID: "77", LISTEN_FDS: "2", LISTEN_FDNAMES: "a:b:c" }, [3, 4]],
    [{ LISTEN_PID: "77", LISTEN_FDS: "0" }, []],
    [{ LISTEN_PID: "78", LISTEN_FDS: "1" }, []],
    [{ LISTEN_PID: "", LISTEN_FDS: "1" }, []],
    [{ LISTEN_FDS: "1" }, []],
  ];
  for (const [environment, sockets] of rows) {
    const title = JSON.stringify(environment);
    const given = { ...environment, PATH: "/bin" };
    const passed = passedSockets(given, 77);
    t.same(
      passed.map(({ descriptor }) => descriptor),
      sockets,
      title,
    );
    const names = sockets.length === 3 ? ["a", "b", "c"] : sockets.map(() => "");
    t.same(
      passed.map(({ name }) => name),
      names,
      title,
    );
    t.same(given, { PATH: "/bin" }, `${title}: nothing is left for our children`);
  }
  for (const count of ["x", "-1", "1025", "99999", "1.5", ""])
    t.throws(() => passedSockets({ LISTEN_PID: "77", LISTEN_FDS: count }, 77), Fault, count);
});
