/** The worker that the page starts, beside the page's own script. @module */

import "../painters/worker.ts";
