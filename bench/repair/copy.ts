import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { pipeline } from "node:stream/promises";

/**
 * Copies a region directory over a TCP connection on loopback, as somebody without repair would: tar, a socket, tar, and a
 * sync at the end. `sparse`: holes are found by the file system and not sent. Returns seconds; the copy is removed.
 */
export async function copyOverLoopback(
  from: string,
  to: string,
  sparse: boolean,
): Promise<{ readonly seconds: number; readonly sentBytes: number }> {
  mkdirSync(to, { recursive: true });
  const began = performance.now();
  let sentBytes = 0;
  try {
    const received = new Promise<void>((resolve, reject) => {
      const server = createServer((socket) => {
        server.close();
        const unpack = spawn("tar", ["-x", "-i", ...(sparse ? ["-S"] : []), "-f", "-", "-C", to], {
          stdio: ["pipe", "ignore", "inherit"],
        });
        const unpacked = ended(unpack);
        pipeline(socket, unpack.stdin)
          .then(() => unpacked)
          .then(resolve, reject);
      });
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        if (address === null || typeof address === "string") return;
        const pack = spawn("tar", ["-c", ...(sparse ? ["-S"] : []), "-f", "-", "-C", from, "."], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        const socket = connect(address.port, "127.0.0.1");
        pack.stdout.on("data", (data: Buffer) => {
          sentBytes += data.length;
        });
        Promise.all([pipeline(pack.stdout, socket), ended(pack)]).catch(reject);
      });
    });
    await received;
    await ended(spawn("sync", ["-f", to], { stdio: ["ignore", "ignore", "inherit"] }));
    return { seconds: (performance.now() - began) / 1000, sentBytes };
  } finally {
    rmSync(to, { recursive: true, force: true });
  }
}

function ended(child: ReturnType<typeof spawn>): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`${child.spawnfile} ended with ${code}`)),
    );
  });
}
