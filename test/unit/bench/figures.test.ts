import t from "tap";
import { bytesOf } from "../../../bench/load.js";
import { courseOf, csvOf, type MemorySample, parseStatus } from "../../../bench/memory/sample.js";

// The arithmetic behind the measuring scripts.

const sample = (seconds: number, resident: number): MemorySample => ({
  seconds,
  resident,
  anonymous: 2,
  shared: 3,
  writesUsed: 4,
  readsUsed: 5,
});

t.test("the course of a figure: a line through all samples", async (t) => {
  const rising = [0, 10, 20, 30].map((seconds) => sample(seconds, 100 + seconds / 60));
  const course = courseOf(rising, "resident");
  t.equal(course.first, 100);
  t.equal(course.last, 100.5);
  t.equal(course.max, 100.5);
  t.ok(Math.abs(course.perHour - 60) < 1e-6, `${course.perHour}`);
  t.equal(courseOf(rising, "shared").perHour, 0);
  // One outlier in the middle lifts the maximum, not the slope.
  const peak = [sample(0, 10), sample(10, 50), sample(20, 10)];
  t.same(courseOf(peak, "resident"), { first: 10, last: 10, median: 10, max: 50, perHour: 0 });
  t.equal(courseOf([sample(7, 1)], "resident").perHour, 0);
});

t.test("samples as a table", async (t) => {
  t.equal(
    csvOf([sample(10, 1.5)]),
    "seconds,resident_mib,anonymous_mib,shared_mib,writesUsed_mib,readsUsed_mib\n10.00,1.50,2.00,3.00,4.00,5.00\n",
  );
});

t.test("the kernel's words", async (t) => {
  const text =
    "Name:\tnode\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\nRssFile:\t 1 kB\nRssShmem:\t  512 kB\n";
  t.same(parseStatus(text), { resident: 2, anonymous: 1, shared: 0.5 });
  t.throws(() => parseStatus("Name:\tnode\n"), { message: /VmRSS/ });
});

t.test("sizes", async (t) => {
  t.equal(bytesOf("512"), 512);
  t.equal(bytesOf("3M"), 3 << 20);
  t.equal(bytesOf("10G"), 10 * 2 ** 30);
  t.throws(() => bytesOf("ten"), { message: /no size/ });
});
