import t from "tap";
import { BLOCK_BYTES, imageOf } from "../kill/ledger.js";
import { Book } from "./book.js";
import { firstIdOf, type Kind, lineOf, type Note, noteOf } from "./notes.js";
import { page, Sheet } from "./page.js";

const image = (...numbers: number[]): Buffer =>
  Buffer.concat(numbers.map((number, block) => imageOf(block, number)));
const asked = (id: number, kind: Kind, first = 0, count = 0): Note => ({
  what: "asked",
  ms: 1.5,
  id,
  kind,
  first,
  count,
});
const answered = (id: number): Note => ({ what: "answered", ms: 2, id });

t.test("notes are read as they were written", async (t) => {
  const notes: Note[] = [
    asked(firstIdOf(3), "fua", 17, 64),
    answered(5),
    { what: "failed", ms: 12.125, id: 6, text: "NBD error 108\nand more" },
  ];
  const read = notes.map((note) => noteOf(lineOf(note).trimEnd()));
  t.same(read.slice(0, 2), notes.slice(0, 2));
  t.same(read[2], { ...notes[2], text: "NBD error 108 and more" }, "one line each");
});

t.test("what the volume may show", async (t) => {
  const book = new Book(4);
  for (const note of [asked(1, "write", 0, 2), answered(1), asked(2, "flush")]) book.take(note);
  book.take(asked(3, "write", 1, 2));
  book.take(answered(3));
  book.take(answered(2));
  t.same([...book.acknowledged], [1, 3, 3, 0]);
  t.same([...book.flushed], [1, 1, 0, 0], "a flush covers what was acknowledged before it");
  t.same(book.check(image(1, 3, 3, 0), book.acknowledged), []);
  t.same(book.check(image(1, 1, 0, 0), book.flushed), []);
  t.same(book.unflushed(image(1, 1, 3, 0)), { blocks: 2, older: 1 });
  t.equal(book.check(image(1, 1, 3, 0), book.acknowledged).length, 1, "an older write");
  t.equal(book.check(image(0, 3, 3, 0), book.flushed).length, 1, "a flushed one is lost");
  t.equal(book.check(image(1, 3, 3, 9), book.flushed).length, 1, "never asked for");
  const torn = image(1, 3, 3, 0);
  torn.fill(0, BLOCK_BYTES + 512, BLOCK_BYTES + 1024);
  t.equal(book.check(torn, book.flushed).length, 1, "half a block");
  t.equal(book.check(image(1, 3), book.flushed).length, 1, "half a volume");
  book.take(asked(4, "fua", 3, 1));
  t.same(book.check(image(1, 3, 3, 4), book.flushed), [], "under way, it may be there");
  book.take({ what: "failed", ms: 1, id: 4, text: "error" });
  t.equal(book.acknowledged[3], 0);
});

t.test("after another host took over, what the one before asks for never shows", async (t) => {
  const book = new Book(3);
  for (const note of [asked(1, "write", 0, 3), answered(1), asked(2, "write", 1, 1)])
    book.take(note);
  const found = image(1, 1, 1);
  book.settle(found);
  t.same(book.check(found, book.acknowledged), []);
  t.equal(book.check(image(1, 2, 1), book.acknowledged).length, 1, "a late write");
  const heir = firstIdOf(2);
  book.take(asked(heir, "fua", 1, 1));
  book.take(answered(heir));
  t.equal(book.check(found, book.flushed).length, 1);
  t.equal(book.check(image(1, 2, 1), book.flushed).length, 1, "over a newer one, too");
  t.same(book.check(image(1, heir, 1), book.flushed), []);
});

t.test("the page", async (t) => {
  const good = new Sheet("one");
  good.stallMs = 12.4;
  good.status.push("0: all is well");
  const bad = new Sheet("two");
  bad.wrong.push("something ".repeat(30));
  const held = page(["head"], [good], 1);
  t.match(held, /^head\n\n {1}1 one \(0 s\) +held\n {3}writer {2}0 errors, longest stall 12 ms\n/);
  t.match(held, /\nall 1 acts held$/);
  const failed = page(["head"], [good, bad], 3);
  t.match(failed, / 2 two \(0 s\) +FAILED\n/);
  t.match(failed, /\n1 acts held, 1 failed, 1 were not played$/);
  t.ok(failed.split("\n").every((line) => line.length <= 118));
});
