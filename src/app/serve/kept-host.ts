import { existsSync } from "node:fs";
import { Fault } from "../../base/fault.js";
import type { Uuid } from "../../base/ids.js";
import { ERRNO } from "../../host/errno.js";
import { type Host, openHost } from "../../host/open.js";
import { type Journal, nullJournal } from "../../ports/journal.js";
import type { Notes } from "../../ports/notes.js";
import { asFault } from "../report.js";
import type { PassedLog } from "./inheritance.js";
import type { ServeSettings } from "./settings.js";
import { OwnLog } from "./write-log.js";

/** A host whose payload memory outlives the process, with the journal that says what is in it. */
export interface KeptHost {
  readonly host: Host;
  readonly journal: Journal;
  close(): Promise<void>;
  /** Instead of `close`: the log stays open and locked, for a successor. */
  leave(): Promise<PassedLog | null>;
}

export interface KeptTerms {
  readonly settings: ServeSettings;
  readonly volumeId: Uuid;
  readonly notes: Notes;
  readonly notifySocket: string | undefined;
}

/** For a volume that keeps no write log, because it has no replicas, or writes nothing. */
export function openPlainHost({ settings, notifySocket }: KeptTerms): KeptHost {
  const { arenaBytes, engine } = settings;
  const host = openHost({ arenaBytes, engine, notifySocket });
  const close = (): Promise<void> => host.close();
  const leave = async (): Promise<null> => {
    await close();
    return null;
  };
  return { host, journal: nullJournal, close, leave };
}

/**
 * With the volume's write log (that of a predecessor, when it gave it to us), or without when it may be. A place that was not asked for and has no room is passed over; one that was asked
 * for has to do. Rejects with a Fault.
 */
export async function openKeptHost(
  terms: KeptTerms,
  inherited: PassedLog | null,
): Promise<KeptHost> {
  const { settings, notes, volumeId } = terms;
  // Wherever it is: what is in it has to be finished.
  if (inherited !== null)
    return openWith(await OwnLog.adopt(inherited, { ...settings, volumeId, notes }), terms);
  const { writeLog, ack } = settings;
  let problem = writeLog.problem;
  for (const path of writeLog.paths) {
    let log: OwnLog | Fault;
    // Looked at before: one that is damaged is put aside while it is opened.
    const isThere = existsSync(path);
    try {
      log = await OwnLog.open(path, { ...settings, volumeId, notes });
    } catch (error) {
      // One that is there may hold something; where there is none, another place will do.
      const fault = asFault(error);
      if (fault === undefined || !writeLog.isDefault || isThere) throw error;
      problem = fault.message;
      continue;
    }
    if (log instanceof Fault) {
      if (writeLog.mayBeTaken !== true) throw log;
      problem = log.message;
      break;
    }
    try {
      return openWith(log, terms);
    } catch (error) {
      log.close();
      const isFull = error instanceof Fault && error.errno === ERRNO.noSpace;
      if (!isFull || !writeLog.isDefault || log.predecessor !== null) throw error;
      problem = `there is no room for ${log.arenaBytes} bytes in ${path}`;
    }
  }
  if (!writeLog.isDefault) {
    if (ack === "buffered")
      notes(
        "warn",
        "log.none",
        "writes are acknowledged at once and there is no write log: whatever is not flushed is lost when this process dies",
      );
  } else if (ack === "buffered")
    throw new Fault("TRIVET_E_LOG_PLACE", `acknowledging at once needs a write log: ${problem}`);
  else
    notes(
      "warn",
      "log.none",
      `there is no write log, so what is acknowledged and not flushed may be lost when this process dies: ${problem}`,
    );
  return openPlainHost(terms);
}

function openWith(log: OwnLog, { settings, notifySocket }: KeptTerms): KeptHost {
  const { arenaBytes, backing } = log;
  const host = openHost({ arenaBytes, engine: settings.engine, notifySocket, backing });
  const close = async (): Promise<void> => {
    await host.close();
    log.close();
  };
  const leave = async (): Promise<PassedLog | null> => {
    await host.close();
    return log.leave();
  };
  try {
    return { host, journal: log.start(host), close, leave };
  } catch (error) {
    void host.close();
    throw error;
  }
}
