/** "/dev/nbd3" or "nbd3": 3. Undefined for anything else, also for a partition. */
export function deviceIndex(text: string): number | undefined {
  const match = /^(?:\/dev\/)?nbd(\d{1,7})$/.exec(text);
  if (match === null) return undefined;
  const index = Number(match[1]);
  return index <= INDEX_MAX ? index : undefined;
}

/** Device numbers of the kernel have 20 bits. */
const INDEX_MAX = 0xfffff;

export const deviceNode = (index: number): string => `/dev/nbd${index}`;
