// What systemd and a kernel said while a host ran and stopped: whether that was as it must be.

/** Must have been said in this order, each for the last time, when a host or somebody by hand stops a volume that is in use. */
const STOPS = [
  "Unmounted srv-photos.mount",
  "Stopping trivet-attach@photos.service",
  "Stopped trivet-attach@photos.service",
  "Stopping trivet@photos.service",
  "Stopped trivet@photos.service",
];

/** Complaints about the order in which mount, attachment and server were stopped. */
export function stopComplaints(journal: string): string[] {
  const lines = journal.split("\n");
  const wrong: string[] = [];
  let before = -1;
  for (const [i, text] of STOPS.entries()) {
    const at = lines.map((line) => line.includes(text)).lastIndexOf(true);
    if (at < 0) wrong.push(`nobody said "${text}"`);
    else if (at < before) wrong.push(`"${text}" came before "${STOPS[i - 1]}"`);
    before = at;
  }
  return wrong;
}

/** What must not be said by a kernel whose device is there all the time, nor by systemd. */
const TROUBLE = [
  /I\/O error/,
  /blocked for more than/,
  /Out of memory/,
  /EXT4-fs (?:error|warning) \(/,
  /EXT4-fs .*[Rr]emounting filesystem read-only/,
  /Aborting journal/,
  /Other side returned error/,
  /[Ff]ailed unmounting|target is busy/,
  /ordering cycle/,
  /Timed out waiting|timed out\. |Job \S+ timed out/,
  /trivet\S*: Failed with result '(?!signal)/,
  // A file system that was not unmounted the last time.
  /EXT4-fs \(nbd\d+\): (?:recovery complete|.*orphan)/,
];

export const trouble = (text: string): string[] =>
  text.split("\n").filter((line) => TROUBLE.some((pattern) => pattern.test(line)));
