import { Fault } from "../base/fault.js";
import { extentPath, SQLITE_SUFFIX } from "./layout.js";

/**
 * An extent keeps its contexts in a database if and only if `X.db` lies beside it (regions made before raw extents).
 * We neither read nor touch such an extent; `region` is the directory. The original converts it when it opens
 * the region read-write; a read-only snapshot of one has to be copied to a writable place first.
 */
export const sqliteFault = (region: string, extent: number): Fault =>
  new Fault(
    "TRIVET_E_REGION_SQLITE",
    `${region}/${extentPath(extent)}${SQLITE_SUFFIX} exists: extent ${extent} is in the old SQLite format, which is neither read nor changed`,
  );
