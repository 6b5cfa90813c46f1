/**
 * Saves a model with this library. The Python scripts in this folder load the result with
 * diffusers.
 *
 *     deno run --allow-read --allow-write tests/reference/save.ts MODEL_FOLDER TARGET \
 *       [--dtype f16|f32] [--source S --destination D]
 *
 * A target that ends in .safetensors becomes a single file, any other a folder. With a source and a
 * destination prompt, the model is edited first.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import type { SavedDtype } from "../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";

const args = parseArgs(Deno.args, { string: ["dtype", "source", "destination"] });
const [model, target] = args._.map(String);
const dtype = args.dtype as SavedDtype | undefined;

using pipe = await openPipeline(model);
if (args.source !== undefined) await pipe.editModel(args.source, args.destination!);
if (target.endsWith(".safetensors")) await pipe.saveSingleFile(target, { dtype });
else await pipe.savePretrained(target, { dtype });
