import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Uuid } from "../../../src/base/ids.js";
import { parseRegionConfig, renderRegionConfig } from "../../../src/region/config.js";

const TEXT = `{
  "block_size": 512,
  "extent_size": {
    "value": 100,
    "shift": 9
  },
  "extent_count": 15,
  "uuid": "12345678-1111-2222-3333-123456789999",
  "encrypted": false,
  "database_read_version": 1,
  "database_write_version": 1
}
`;
const REGION = {
  blockSize: 512,
  extentSize: 100,
  shift: 9,
  extentCount: 15,
  uuid: "12345678-1111-2222-3333-123456789999" as Uuid,
  encrypted: false,
  databaseReadVersion: 1,
  databaseWriteVersion: 1,
};

t.test("region.json there and back, byte for byte", async (t) => {
  t.equal(renderRegionConfig(REGION), TEXT);
  t.same(parseRegionConfig(TEXT, "x"), REGION);
  t.same(parseRegionConfig(TEXT.replace("{", '{ "later": [1],'), "x"), REGION, "unknown keys");
});

t.test("what is wrong is named", async (t) => {
  const wrong: [string, RegExp][] = [
    ["", /REGION_CONFIG.*not JSON/],
    ["[]", /REGION_CONFIG.*expected/],
    [TEXT.replace('"block_size": 512,', ""), /REGION_CONFIG.*block_size is undefined/],
    [TEXT.replace('"value": 100', '"value": "100"'), /extent_size.value is "100", expected number/],
    [TEXT.replace('"value": 100', '"value": -1'), /extent_size.value is -1/],
    [TEXT.replace("512", "1e30"), /REGION_CONFIG.*block_size/],
    [
      TEXT.replace('read_version": 1', 'read_version": 2'),
      /database_read_version is 2, expected 1/,
    ],
    [TEXT.replace('write_version": 1', 'write_version": 0'), /database_write_version is 0/],
    [TEXT.replace("12345678-1111", "12345678/1111"), /uuid is .* expected a UUID/],
    [TEXT.replace('"extent_count": 15', '"extent_count": 0'), /not finished/],
    [TEXT.replace('"shift": 9', '"shift": 12'), /REGION_GEOMETRY.*shift is 12, expected 9/],
    [TEXT.replace("512", "1000"), /REGION_GEOMETRY.*block size 1000/],
  ];
  for (const [text, words] of wrong) {
    try {
      parseRegionConfig(text, "/r/region.json");
      t.ok(false, `accepted: ${text}`);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      t.ok(words.test(`${error.code} ${error.message}`), error.message);
      t.ok(error.message.startsWith("/r/region.json: "), "says where");
    }
  }
});
