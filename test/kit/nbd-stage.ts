import { NbdServer, type NbdServerOptions } from "../../src/nbd/server.js";
import type { NoteFields } from "../../src/ports/notes.js";
import { FakeArena } from "./arena.js";
import { type FakeStream, type LinkOptions, link } from "./link.js";
import { NbdClient } from "./nbd-client.js";
import { World } from "./world.js";

export interface Note {
  readonly level: string;
  readonly event: string;
  readonly text: string;
  readonly fields: NoteFields | undefined;
}

/** A world with one arena for the server, one for its clients, and links between them. */
export class NbdStage {
  readonly world: World;
  readonly arena: FakeArena;
  readonly clientArena = new FakeArena(12 * 1024 * 1024);
  readonly notes: Note[] = [];
  #server: NbdServer | undefined;

  constructor(seed = 1, arenaBytes = 16 * 1024 * 1024) {
    this.world = new World(seed);
    this.arena = new FakeArena(arenaBytes);
  }

  serve(options: NbdServerOptions): NbdServer {
    this.#server = new NbdServer(
      {
        arena: this.arena,
        clock: this.world,
        notes: (level, event, text, fields) => this.notes.push({ level, event, text, fields }),
      },
      options,
    );
    return this.#server;
  }

  connect(options: LinkOptions = {}): NbdClient {
    const [near, far] = this.link(options);
    this.#server!.accept(far);
    return new NbdClient(this.world, this.clientArena, near);
  }
  link(options: LinkOptions = {}): [FakeStream, FakeStream] {
    return link(this.world, this.clientArena, this.arena, options);
  }
}
