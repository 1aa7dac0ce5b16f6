import { main } from "./main.js";

await main("crucible-nbd-server", process.argv.slice(2));
