import { Fault } from "../../src/base/fault.js";
import { REPAIR_IDLE_MS, REPAIR_JSON_BYTES_MAX } from "../../src/base/limits.js";
import type { Answer } from "../../src/control/answer.js";
import type { RepairRoutes } from "../../src/control/repair-routes.js";
import type { RepairPeer } from "../../src/downstairs/region-store.js";
import type { Then } from "../../src/ports/files.js";
import type { Address } from "../../src/ports/stream.js";
import { DirectoryNode, type FakeDisk } from "../kit/disk.js";
import type { FakeFiles } from "../kit/files.js";
import type { Network } from "./network.js";
import type { Process } from "./process.js";

// Repair HTTP without HTTP: the real routes answer, and what the real client checks about an answer is checked here. A
// file comes in pieces over the simulated network, each from what the source's disk shows at that moment.

const PIECE_BYTES = 4096;

/** What the machines that serve repairs show of themselves. */
export interface RepairService {
  readonly process: Process;
  readonly routes: RepairRoutes;
  readonly disk: FakeDisk;
}

export interface RepairServices {
  find(address: Address): RepairService | undefined;
}

export class SimRepairPeer implements RepairPeer {
  readonly #process: Process;
  readonly #network: Network;
  readonly #services: RepairServices;
  readonly #disk: FakeDisk;
  readonly #files: () => FakeFiles;
  readonly #fileBytes: () => number;

  constructor(
    process: Process,
    network: Network,
    services: RepairServices,
    disk: FakeDisk,
    files: () => FakeFiles,
    fileBytes: () => number,
  ) {
    this.#process = process;
    this.#network = network;
    this.#services = services;
    this.#disk = disk;
    this.#files = files;
    this.#fileBytes = fileBytes;
  }

  files(
    source: Address,
    extent: number,
    then: (fault: Fault | null, names: readonly string[]) => void,
  ): void {
    this.#json(source, `/extent/${extent}/files`, (fault, value) =>
      then(fault, (value ?? []) as string[]),
    );
  }
  ready(
    source: Address,
    extent: number,
    then: (fault: Fault | null, ready: boolean) => void,
  ): void {
    this.#json(source, `/extent/${extent}/repair-ready`, (fault, value) =>
      then(fault, value === true),
    );
  }
  fetch(source: Address, extent: number, type: string, path: string, then: Then): void {
    this.#ask(source, `/newextent/${extent}/${type}`, (fault, answer, service) => {
      if (fault !== null) return then(fault);
      if (!("file" in answer)) return then(wrong(source, `answers ${JSON.stringify(answer)}`));
      const slash = path.lastIndexOf("/");
      const parent = this.#disk.find(path.slice(0, slash));
      if (!(parent instanceof DirectoryNode)) return then(wrong(source, `no folder for ${path}`));
      const node = this.#disk.newFile();
      parent.change([[path.slice(slash + 1), node]]);
      const bytes = this.#fileBytes();
      const next = (at: number): void => {
        const from = service.disk.get(answer.file);
        if (!service.process.isAlive || from?.length !== bytes) {
          then(wrong(source, `ended in the middle, or has ${from?.length} bytes`));
          return;
        }
        const end = Math.min(bytes, at + PIECE_BYTES);
        node.writeSome(at, from.subarray(at, end), () => true);
        if (end < bytes) this.#travel(service, next, end, then, source);
        else this.#sync(path, then);
      };
      this.#travel(service, next, 0, then, source);
    });
  }

  /** The file is there; that it is durable is a call to the file system, which may fail like any other. */
  #sync(path: string, then: Then): void {
    const files = this.#files();
    files.open(path, "readWrite", (fault, file) => {
      if (fault !== null) return then(fault);
      const fileDone = (_: number, result: number): void => {
        files.close(file);
        then(result < 0 ? new Fault("TRIVET_E_IO", `${path}: error ${result}`) : null);
      };
      files.sync(file, false, { fileDone }, 0);
    });
  }

  #travel(
    service: RepairService,
    next: (at: number) => void,
    at: number,
    then: Then,
    source: Address,
  ): void {
    const stalledMs = this.#network.stalledMs(this.#process.machine.name, source.host);
    if (stalledMs >= REPAIR_IDLE_MS) {
      this.#process.after(REPAIR_IDLE_MS, () => then(wrong(source, "nothing came")));
      return;
    }
    this.#process.after(stalledMs + this.#process.world.chance(), () => {
      if (service.process.isAlive) next(at);
      else then(wrong(source, "the connection ended"));
    });
  }

  #json(
    source: Address,
    target: string,
    then: (fault: Fault | null, value: unknown) => void,
  ): void {
    this.#ask(source, target, (fault, answer) => {
      if (fault !== null) return then(fault, undefined);
      if ("file" in answer || answer.status !== 200 || answer.text.length > REPAIR_JSON_BYTES_MAX)
        return then(wrong(source, `${target}: ${JSON.stringify(answer)}`), undefined);
      then(null, JSON.parse(answer.text));
    });
  }

  #ask(
    source: Address,
    target: string,
    then: (fault: Fault | null, answer: Answer, service: RepairService) => void,
  ): void {
    const here = this.#process;
    const stalledMs = this.#network.stalledMs(here.machine.name, source.host);
    const fail = (what: string): void =>
      then(wrong(source, what), { file: "" }, undefined as unknown as RepairService);
    if (stalledMs >= REPAIR_IDLE_MS) {
      here.after(REPAIR_IDLE_MS, () => fail("nothing came"));
      return;
    }
    here.after(stalledMs + here.world.chance(), () => {
      const service = this.#services.find(source);
      if (service === undefined || !service.process.isAlive) {
        here.after(1, () => fail("connection refused"));
        return;
      }
      let isAnswered = false;
      service.routes.handle({ method: "GET", target }, (answer) => {
        isAnswered = true;
        here.after(here.world.chance(), () => then(null, answer, service));
      });
      // It answers within the same moment, or it died.
      here.after(1, () => {
        if (!isAnswered) fail("the connection was reset");
      });
    });
  }
}

const wrong = (source: Address, what: string): Fault =>
  new Fault("TRIVET_E_REPAIR", `http://${source.host}:${source.port}: ${what}`);
