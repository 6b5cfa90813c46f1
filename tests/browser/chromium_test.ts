/** Runs `chromium.ts`. */
import { testApart } from "./run_apart.ts";

await testApart("golden tests and pictures in Chromium", new URL("chromium.ts", import.meta.url));
