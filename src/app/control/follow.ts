import { Fault } from "../../base/fault.js";
import type { ReplicaReport, StatusReport } from "../../control/report.js";
import { stderrProgress } from "../progress.js";
import type { ControlClient } from "./client.js";

// Following what a server does by asking for its status again and again.

const ASK_MS = 500;

export async function askStatus(client: ControlClient): Promise<StatusReport> {
  const report = (await client.ask({ do: "status" })) as StatusReport | undefined;
  if (report?.report === 1) return report;
  throw new Fault("TRIVET_E_CONTROL", "the server's status is of another version");
}

/** Resolves when the replica at `address` is at work; rejects when it is refused, or somebody else takes its place. */
export async function follow(client: ControlClient, address: string): Promise<void> {
  let progress: ReturnType<typeof stderrProgress> | undefined;
  let shown = 0;
  try {
    for (;;) {
      const report = await askStatus(client);
      const replica = report.replicas.find((one) => one.address === address);
      if (replica === undefined)
        throw new Fault("TRIVET_E_REPLACE", `${address} is no replica of this volume any more`);
      if (replica.state === "active") return;
      refuse(replica);
      const running = report.repair?.running;
      if (running?.targets.includes(replica.index)) {
        progress ??= stderrProgress("repairing", running.extent_count, "extents");
        const done = running.repaired + running.confirmed;
        progress.advance(done - shown);
        shown = done;
      }
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    }
  } finally {
    progress?.done();
  }
}

function refuse(replica: ReplicaReport): void {
  if (replica.refused !== null) throw new Fault("TRIVET_E_REFUSED", replica.refused);
}
