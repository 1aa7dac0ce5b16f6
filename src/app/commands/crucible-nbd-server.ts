import { Fault } from "../../base/fault.js";
import type { Command, Input } from "../cli/command.js";
import { parseAddress, parseGeneration } from "../cli/values.js";
import { checkTargets, defaultSettings, type ServeSettings } from "../serve/settings.js";

/** What the program stood in for lists as its export; it accepts any name, and so do we here. */
const EXPORT_NAME = "rustnbd";

/** Options of the original that have no meaning here yet, with what they are for. */
const NOT_YET: Readonly<Record<string, string>> = {
  key: "encryption",
  "cert-pem": "TLS to the downstairs",
  "key-pem": "TLS to the downstairs",
  "root-cert-pem": "TLS to the downstairs",
  control: "the control server",
};

export const CRUCIBLE_NBD_SERVER: Command = {
  name: "crucible-nbd-server",
  summary: "trivet in place of Crucible's NBD server",
  operands: [],
  options: {
    target: {
      value: "IP:PORT",
      short: "t",
      multiple: true,
      help: "A downstairs; give three, always in the same order",
    },
    key: { value: "KEY", short: "k", help: "Not there yet: key of encrypted regions" },
    gen: {
      value: "N",
      short: "g",
      shownDefault: "seconds since 1970, or the last used + 1",
      help: "Generation: the highest one has the volume",
    },
    "cert-pem": { value: "FILE", help: "Not there yet: certificate for TLS" },
    "key-pem": { value: "FILE", help: "Not there yet: key for TLS" },
    "root-cert-pem": { value: "FILE", help: "Not there yet: authority for TLS" },
    control: { value: "IP:PORT", help: "Not there yet: control server" },
    address: {
      value: "IP:PORT",
      shownDefault: "127.0.0.1:10809",
      help: "Listen here for NBD clients",
    },
  },
  async run(input, shell) {
    const settings = compatSettings(input, shell.env);
    const { serve } = await import("../serve/serve.js");
    await serve(settings, shell);
  },
};

export function compatSettings(
  input: Input,
  env: Readonly<Record<string, string | undefined>>,
): ServeSettings {
  for (const [name, what] of Object.entries(NOT_YET)) {
    if (input.text(name) === undefined) continue;
    throw new Fault("TRIVET_E_NOT_YET", `--${name}: ${what} is not there yet`);
  }
  const targets = input.list("target").map((text) => parseAddress("--target", text));
  checkTargets(targets);
  const settings = defaultSettings({ kind: "targets", targets }, env);
  const gen = input.text("gen");
  const address = input.text("address");
  return {
    ...settings,
    // The program stood in for may be started beside the one that it supersedes.
    writeLog: { ...settings.writeLog, mayBeTaken: true },
    exportName: EXPORT_NAME,
    anyName: true,
    listensExplicitly: address !== undefined,
    generation: gen === undefined ? undefined : parseGeneration("--gen", gen),
    addresses:
      address === undefined
        ? settings.addresses
        : [parseAddress("--address", address, { anyPort: true })],
  };
}
