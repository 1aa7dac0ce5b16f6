// What npm runs at install: nothing when an addon for this machine loads already (prebuilt or built before) and the
// program beside it is there, otherwise the native build.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const require = createRequire(import.meta.url);

function loads(place) {
  try {
    return typeof require(`${root}${place}`).Core === "function";
  } catch {
    return false;
  }
}

const places = [
  "build/native/Release/trivet.node",
  `prebuilds/${process.platform}-${process.arch}.node`,
];
const programs = [
  "build/native/Release/trivet-attach",
  `prebuilds/${process.platform}-${process.arch}-trivet-attach`,
];
if (!places.some(loads) || !programs.some((place) => existsSync(`${root}${place}`))) {
  const build = spawnSync("npm", ["run", "--silent", "build:native"], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (build.status !== 0) {
    process.stderr.write(build.stdout ?? "");
    process.stderr.write(
      "The native part did not build. It needs: cmake, make or ninja, g++ 12 or newer, liburing-dev, libxxhash-dev.\n",
    );
    process.exit(1);
  }
}
