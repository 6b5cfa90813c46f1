/**
 * Saves a model as the library does, for the scripts beside this file to load with the real diffusers:
 *
 *     deno run -A tests/reference/save.ts MODEL_FOLDER TARGET [--dtype f16|f32] [--max-shard-bytes N]
 *
 * A target that ends with .safetensors is written as a single file, any other as a folder.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import type { SavedDtype } from "../../pipeline/loading/tensor_stream.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion_pipeline.ts";

const args = parseArgs(Deno.args, { string: ["dtype", "max-shard-bytes"] });
const [source, target] = args._.map(String);
const dtype = args.dtype as SavedDtype | undefined;
const maxShardBytes = args["max-shard-bytes"] === undefined ? undefined : Number(args["max-shard-bytes"]);

using pipe = await StableDiffusionPipeline.fromPretrained(source);
if (target.endsWith(".safetensors")) await pipe.saveSingleFile(target, { dtype });
else await pipe.savePretrained(target, { dtype, maxShardBytes });
