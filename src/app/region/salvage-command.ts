import { Fault } from "../../base/fault.js";
import type { Command, Input, Shell } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { stderrProgress } from "../progress.js";
import { doubtfulBlocks, goneBlocks, isLive, salvage } from "./salvage.js";
import { parseGeometry } from "./salvage-inputs.js";
import { reportJson, reportLines } from "./salvage-report.js";
import { withWorkspace } from "./workspace.js";

const REPLICAS = 3;

export const SALVAGE: Command = {
  name: "salvage",
  summary: "the newest consistent image from whatever is left of one to three regions",
  operands: [{ name: "DIR", required: true, multiple: true }],
  options: {
    output: { value: "IMAGE", short: "o", help: "The raw image to write; sparse" },
    force: { help: "Replace IMAGE when it exists" },
    json: { help: "Print one JSON object, for scripts" },
    geometry: {
      value: "BLOCKSIZE,BLOCKS,EXTENTS",
      help: "Bytes in a block, blocks in an extent, extents: when no region.json is left",
    },
    "keep-bad": {
      help: "Where no copy is good, keep what the best one has instead of zeros",
    },
    "live-anyway": {
      help: "Read regions that another process has open; nothing is sure then",
    },
    ciphertext: {
      help: "Accept encrypted regions; nonces and tags go to IMAGE.seals, 28 bytes a block",
    },
  },
  details: [
    "Directories may be damaged: region.json or extent files may be missing, cut, torn or unreadable. Nothing in",
    "them is changed. Every block is checked against its hash; a bad one is taken from another region.",
    "The report names every block that is doubtful (such as: only an older copy is good) or gone (no copy is).",
    "",
    "Exit status: 0 all blocks are proved, 7 the image is there but some blocks are doubtful or gone.",
    "",
    "Example: trivet region salvage /mnt/a/photos /mnt/b/photos /mnt/c/photos -o photos.img",
  ],
  async run(input: Input, shell: Shell) {
    const image = input.text("output");
    if (image === undefined) throw usage("say with -o IMAGE where the image is to go");
    const directories = input.operands;
    if (directories.length > REPLICAS) {
      throw usage(`${directories.length} directories are named; a volume has ${REPLICAS} regions`);
    }
    const geometry = input.text("geometry");
    const keepBad = input.flag("keep-bad");
    const options = {
      geometry: geometry === undefined ? undefined : parseGeometry(geometry),
      force: input.flag("force"),
      liveAnyway: input.flag("live-anyway"),
      ciphertext: input.flag("ciphertext"),
      keepBad,
    };
    const report = await withWorkspace((workspace) =>
      salvage(directories, image, options, workspace, (total) =>
        stderrProgress("salvaging", total),
      ),
    );
    if (input.flag("json")) shell.print(JSON.stringify(reportJson(report, keepBad)));
    else for (const line of reportLines(report, keepBad)) shell.print(line);
    const gone = goneBlocks(report);
    const doubtful = doubtfulBlocks(report);
    if (gone + doubtful > 0) {
      throw new Fault(
        "TRIVET_E_SALVAGE_DOUBTFUL",
        `${image}: ${doubtful} blocks are doubtful, ${gone} are gone`,
      );
    }
    if (isLive(report)) {
      throw new Fault(
        "TRIVET_E_SALVAGE_DOUBTFUL",
        `${image}: regions were in use while they were read`,
      );
    }
  },
};
