import t from "tap";
import { readRuns } from "./fio.js";
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

const RUN =
  "3;fio-3.33;verify;0;0;256;42666;10666;6;54;199;75.6;24.2;4;723;515.0;116.4;1.0%=4;5.0%=362;10.0%=464;20.0%=481;30.0%=493;40.0%=497;50.0%=509;60.0%=522;70.0%=528;80.0%=544;90.0%=684;95.0%=700;99.0%=724;99.5%=724;99.9%=724;99.95%=724;99.99%=724;0%=0;0%=0;0%=0;92;797;590.7;113.3;0;0;0.0%;0.0;0.0;256;36571;9142;7;62;448;91.9;51.0;4;1500;588.8;121.8;1.0%=4";

t.test("runs of fio", async (t) => {
  const good = readRuns(`${RUN}\nstatus 0\n${RUN}\nstatus 0\n`);
  t.same(good, { runs: 2, writes: 0, errors: 0, stallMs: 1.5, errno: 0, said: [] });
  t.equal(readRuns(`${RUN.replace(";4;723;", ";4;9000;")}\nstatus 0`).stallMs, 9, "a read");
  const failed = RUN.replace("verify;0;0;", "verify;0;84;");
  const said = "verify: bad magic header 0, wanted acca at file /srv/photos/fio offset 4096";
  const bad = readRuns(`${RUN}\nstatus 0\n${said}\n${failed}\nstatus 1\n`);
  t.same(bad.said, [said, "status 1"]);
  t.equal(bad.errno, 84);
  t.equal(bad.errors, 2);
  t.equal(readRuns(`${RUN}\nstatus 0\nstatus 137\n`).errors, 2, "one was killed");
  t.equal(readRuns("").runs, 0);
});
