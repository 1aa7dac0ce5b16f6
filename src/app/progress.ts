/** Shows how far a long piece of work has come: a bar on a terminal, a plain line every ten seconds elsewhere. */
export interface Progress {
  /** In the unit of the total. */
  advance(amount: number): void;
  /** Removes the bar. */
  done(): void;
}

export interface ProgressOutput {
  readonly isTerminal: boolean;
  readonly columns: number;
  write(text: string): void;
}

const SILENT_MS = 2_000;
const BAR_EVERY_MS = 200;
const LINE_EVERY_MS = 10_000;
const BAR_CELLS_MAX = 40;

export function startProgress(
  label: string,
  totalBytes: number,
  output: ProgressOutput,
  nowMs: () => number,
  show: (amount: number) => string = showBytes,
): Progress {
  const startedMs = nowMs();
  let moved = 0;
  let nextMs = startedMs + (output.isTerminal ? SILENT_MS : LINE_EVERY_MS);
  let drawn = false;
  const state = (elapsedMs: number): string => {
    const rate = moved / (elapsedMs / 1000);
    const percent = totalBytes === 0 ? 100 : Math.floor((100 * moved) / totalBytes);
    const left = rate > 0 ? showSeconds((totalBytes - moved) / rate) : "?";
    return `${percent} % of ${show(totalBytes)}, ${show(rate)}/s, ${left} left`;
  };
  return {
    advance(bytes) {
      moved += bytes;
      const now = nowMs();
      if (now < nextMs) return;
      const text = state(now - startedMs);
      if (output.isTerminal) {
        nextMs = now + BAR_EVERY_MS;
        const cells = Math.min(BAR_CELLS_MAX, output.columns - label.length - text.length - 6);
        output.write(`\r${label} ${bar(moved / Math.max(1, totalBytes), cells)}${text}\x1b[K`);
        drawn = true;
      } else {
        nextMs = now + LINE_EVERY_MS;
        output.write(`${label}: ${text}\n`);
      }
    },
    done() {
      if (drawn) output.write("\r\x1b[K");
      drawn = false;
    },
  };
}

function bar(part: number, cells: number): string {
  if (cells < 5) return "";
  const full = Math.round(Math.min(1, part) * cells);
  return `[${"#".repeat(full)}${".".repeat(cells - full)}] `;
}

export function showBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Number.isInteger(value) ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

export function showSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Progress of this process, on standard error, so that results can be piped. In bytes unless another unit is named. */
export const stderrProgress = (label: string, total: number, unit?: string): Progress =>
  startProgress(
    label,
    total,
    {
      isTerminal: process.stderr.isTTY === true,
      columns: process.stderr.columns || 80,
      write: (text) => {
        process.stderr.write(text);
      },
    },
    () => performance.now(),
    unit === undefined ? showBytes : (amount) => `${Math.round(amount)} ${unit}`,
  );
