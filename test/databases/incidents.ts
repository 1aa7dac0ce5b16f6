import { prng } from "../kit/world.js";

// What happens in a round, and when: chance decides, and a seed decides chance.

export interface Incident {
  readonly name: string;
  /** Killed, and started again. */
  readonly server: boolean;
  readonly replicas: readonly number[];
  /** `trivet restart`: another server takes over. */
  readonly restart: boolean;
  /** Load before it. */
  readonly afterMs: number;
  /** How long each victim stays dead: the server, then the replicas. */
  readonly deadMs: readonly number[];
  /** How the server acknowledges when it is back. */
  readonly ack: "quorum" | "buffered";
}
export interface Round {
  readonly incidents: readonly Incident[];
  /** How it ends: the database is killed, or everything that a power cut of its host takes along. */
  readonly end: "crash" | "power cut";
  /** Load between the last incident and the end, at the least. */
  readonly afterMs: number;
  /** Of a power cut: replicas that lose their power, too. */
  readonly replicas: readonly number[];
}

const WORK_MS = 1500;
const DEAD_MS = 1000;
/** Every so many rounds end with a power cut. Odd, so that both of SQLite's journal modes meet it. */
export const CUT_EVERY = 5;

const KINDS = [
  { name: "server", server: true, replicas: 0, restart: false },
  { name: "replica", server: false, replicas: 1, restart: false },
  { name: "all replicas", server: false, replicas: 3, restart: false },
  { name: "restart", server: false, replicas: 0, restart: true },
];
/** One of these in addition. */
const WORSE = [
  { name: "server and replica", server: true, replicas: 1, restart: false },
  { name: "two replicas", server: false, replicas: 2, restart: false },
  { name: "everything", server: true, replicas: 3, restart: false },
];

export function planRounds(seed: number, rounds: number): Round[] {
  const chance = prng(seed);
  const shuffled = <T>(all: readonly T[]): T[] =>
    all
      .map((one) => ({ one, at: chance() }))
      .sort((a, b) => a.at - b.at)
      .map(({ one }) => one);
  const some = (count: number): number[] => shuffled([0, 1, 2]).slice(0, count);
  const incident = ({ name, server, replicas, restart }: (typeof KINDS)[number]): Incident => {
    const victims = some(replicas);
    const who = replicas === 1 ? ` ${victims[0]}` : replicas === 2 ? ` ${victims.join(", ")}` : "";
    return {
      name: `${name}${who}`,
      server,
      replicas: victims,
      restart,
      afterMs: chance() * WORK_MS,
      deadMs: Array.from({ length: 4 }, () => chance() * DEAD_MS),
      ack: chance() < 0.5 ? "quorum" : "buffered",
    };
  };
  return Array.from({ length: rounds }, (_, i) => {
    const worse = WORSE[Math.floor(chance() * WORSE.length)]!;
    const incidents = shuffled([...KINDS, worse]).map(incident);
    const end = (i + 1) % CUT_EVERY === 0 ? "power cut" : "crash";
    const replicas = some(Math.floor(chance() * 4));
    return { incidents, end, afterMs: chance() * WORK_MS, replicas } as const;
  });
}
