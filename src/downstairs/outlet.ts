import type { Fault } from "../base/fault.js";
import type { Message } from "../crucible/messages.js";
import type { SessionIds } from "../crucible/session-ids.js";
import type { Stream } from "../ports/stream.js";

/** A connection, as its jobs see it. */
export interface Outlet {
  readonly stream: Stream;
  readonly ids: SessionIds;
  say(message: Message): void;
  /** Sends what was said, then closes. */
  endFor(fault: Fault): void;
}
