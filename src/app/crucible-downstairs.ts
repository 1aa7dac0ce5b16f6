import { main } from "./main.js";

await main("crucible-downstairs", process.argv.slice(2));
