import t from "tap";
import { isAddress, nearest, volumeOf } from "../../../../src/app/attach/target.js";
import type { Fault } from "../../../../src/base/fault.js";

t.test("names and addresses are told apart", async (t) => {
  for (const word of ["127.0.0.1:10809", "[::1]:10809", "box:1", "unix:/run/x.sock", "unix:x"])
    t.equal(isAddress(word), true, word);
  for (const word of [
    "photos",
    "photos.toml",
    "/etc/trivet/photos.toml",
    "a:b",
    "./box:1",
    "x:123456",
  ])
    t.equal(isAddress(word), false, word);
});

t.test("the volume that a word means", async (t) => {
  for (const word of ["photos", "photos.toml", "/etc/trivet/photos.toml", "./photos.toml"])
    t.equal(volumeOf(word), "photos");
});

t.test("the best of a server's addresses", async (t) => {
  const of = (...addresses: string[]): string => nearest(addresses, "photos");
  t.equal(of("10.0.0.1:1", "127.0.0.1:2", "unix:/run/x.sock"), "unix:/run/x.sock");
  t.equal(of("10.0.0.1:1", "127.0.0.1:2"), "127.0.0.1:2");
  t.equal(of("10.0.0.1:1"), "10.0.0.1:1");
  t.equal(of("0.0.0.0:10809"), "127.0.0.1:10809");
  t.equal(of("[::]:10809"), "[::1]:10809");
  try {
    of();
    t.ok(false);
  } catch (error) {
    t.equal((error as Fault).code, "TRIVET_E_NO_SERVER");
  }
});
