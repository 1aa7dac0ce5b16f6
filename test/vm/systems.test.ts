import t from "tap";
import { stopComplaints, trouble } from "./journal.js";

// The judgement of whole systems, without one.

const END = [
  "[  310.1] host systemd[1]: Unmounting srv-photos.mount - photos, on a trivet volume...",
  "[  310.9] host systemd[1]: Unmounted srv-photos.mount - photos, on a trivet volume.",
  "[  311.0] host systemd[1]: Stopping trivet-attach@photos.service - trivet volume photos as a kernel device...",
  "[  315.2] host kernel: block nbd0: NBD_DISCONNECT",
  "[  316.0] host systemd[1]: Stopped trivet-attach@photos.service - trivet volume photos as a kernel device.",
  "[  316.1] host systemd[1]: Stopping trivet@photos.service - trivet volume photos...",
  "[  317.3] host systemd[1]: Stopped trivet@photos.service - trivet volume photos.",
];
/** With the line at `from` before the one at `to`. */
function moved(from: number, to: number): string {
  const lines = END.filter((_, i) => i !== from);
  lines.splice(to, 0, END[from]!);
  return lines.join("\n");
}

t.test("the order of an end", async (t) => {
  t.same(stopComplaints(END.join("\n")), []);
  t.same(stopComplaints([...END, ...END].join("\n")), [], "what came before the last end");
  for (const [from, to] of [
    [1, 2],
    [1, 6],
    [4, 5],
    [6, 0],
  ] as const)
    t.equal(stopComplaints(moved(from, to)).length, 1, `line ${from} at ${to}`);
  t.same(stopComplaints(END.slice(0, 6).join("\n")), [
    'nobody said "Stopped trivet@photos.service"',
  ]);
});

t.test("what must not be said", async (t) => {
  t.same(trouble(END.join("\n")), []);
  const bad = [
    "kernel: Buffer I/O error on dev nbd0, logical block 7, lost sync page write",
    "kernel: blk_update_request: I/O error, dev nbd0, sector 8",
    "kernel: INFO: task jbd2/nbd0-8:612 blocked for more than 120 seconds.",
    "kernel: EXT4-fs (nbd0): recovery complete",
    "kernel: EXT4-fs error (device nbd0): ext4_journal_check_start:83: Detected aborted journal",
    "systemd[1]: Failed unmounting srv-photos.mount - photos, on a trivet volume.",
    "systemd[1]: sysinit.target: Found ordering cycle on trivet@photos.service/start",
    "systemd[1]: trivet@photos.service: State 'stop-sigterm' timed out. Killing.",
    "systemd[1]: dev-trivet-photos.device: Job dev-trivet-photos.device/start timed out.",
    "systemd[1]: trivet@photos.service: Failed with result 'watchdog'.",
  ];
  const good = [
    "kernel: EXT4-fs (nbd0): mounted filesystem with ordered data mode. Quota mode: none.",
    "kernel: EXT4-fs (vda): recovery complete",
    "systemd[1]: trivet@photos.service: Failed with result 'signal'.",
    "systemd[1]: systemd-networkd-wait-online.service: Failed with result 'exit-code'.",
  ];
  t.same(trouble([...bad, ...good].join("\n")), bad);
});
