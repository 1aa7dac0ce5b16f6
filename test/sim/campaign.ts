import { fork } from "node:child_process";
import type { Job, Result } from "./worker.js";

const WORKER = new URL("./worker.js", import.meta.url);

/**
 * Runs jobs on some processes, each the next one as soon as it is free, until `next` has no more. Rejects when a
 * process dies.
 */
export async function campaign(
  processes: number,
  next: () => Job | null,
  onResult: (result: Result) => void,
): Promise<void> {
  const one = (): Promise<void> =>
    new Promise((done, fail) => {
      const child = fork(WORKER, [], { serialization: "advanced" });
      const give = (): void => {
        const job = next();
        if (job === null) child.disconnect();
        else child.send(job);
      };
      child.on("message", (result: Result) => {
        onResult(result);
        give();
      });
      child.on("error", fail);
      child.on("exit", (code, signal) => {
        if (code === 0) done();
        else fail(new Error(`a process of the simulator ended with ${code ?? signal}`));
      });
      give();
    });
  await Promise.all(Array.from({ length: processes }, one));
}
