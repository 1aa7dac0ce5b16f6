import { main } from "./main.js";

await main("trivet", process.argv.slice(2));
