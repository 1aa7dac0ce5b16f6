import { setTimeout as sleep } from "node:timers/promises";

const LOOK_MS = 5;

/** Looks again and again until `holds` says so; rejects when that takes longer than `ms`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ms = 60_000,
): Promise<void> {
  for (const end = performance.now() + ms; !(await holds()); await sleep(LOOK_MS))
    if (performance.now() > end) throw new Error(`waited ${ms / 1000} s in vain for ${what}`);
}
