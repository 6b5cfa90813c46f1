/** Runs `checks.ts`. */
import { testApart } from "../../browser/run_apart.ts";
import { axe } from "./studio.ts";

await testApart("the studio in Chromium", new URL("checks.ts", import.meta.url), [axe]);
