import { assert, assertEquals, assertThrows } from "@std/assert";
import { ArgumentError } from "../../cli/argument_error.ts";
import { checkSampler, samplerName, samplerOf } from "../../cli/sampler.ts";
import {
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  EulerDiscreteScheduler,
  LMSDiscreteScheduler,
  UnknownScheduler,
} from "../../schedulers/mod.ts";

const own = LMSDiscreteScheduler.fromConfig({ beta_schedule: "scaled_linear" });

Deno.test("--sampling-method and --scheduler choose a sampler together, or space the model's own", () => {
  assertEquals(samplerOf({}, own), own);
  assert(samplerOf({ samplingMethod: "dpmpp_2m" }, own) instanceof DPMSolverMultistepScheduler);
  const spaced = samplerOf({ samplingMethod: "Euler", scheduler: "Karras" }, own);
  assert(spaced instanceof EulerDiscreteScheduler && spaced.config.use_karras_sigmas);
  assert(samplerOf({ scheduler: "karras" }, own).config instanceof Object);
  assert(samplerOf({ scheduler: "karras" }, own) instanceof LMSDiscreteScheduler);
  assertEquals(samplerName({ samplingMethod: "euler", scheduler: "karras" }, own), "euler karras");
  assertEquals(samplerName({ scheduler: "karras" }, own), "LMSDiscreteScheduler karras");
  assertEquals(samplerName({}, own), undefined);
});

Deno.test("wrong names are refused before a model is loaded, under the flag that was given", () => {
  checkSampler({});
  checkSampler({ samplingMethod: "ddim" });
  checkSampler({ scheduler: "beta" });
  assertThrows(() => checkSampler({ samplingMethod: "eular" }), ArgumentError, 'Did you mean "euler"?');
  assertThrows(() => checkSampler({ samplingMethod: "eular" }), ArgumentError, "--sampling-method");
  assertThrows(() => checkSampler({ samplingMethod: "euler", scheduler: "ays" }), ArgumentError, "--scheduler");
});

Deno.test("a model whose scheduler is not supported needs --sampling-method, and the message says so", () => {
  const unknown = new UnknownScheduler({}, { className: "EDMEulerScheduler", file: "m/model_index.json" });
  const error = assertThrows(() => samplerOf({}, unknown), ArgumentError);
  for (const part of ["EDMEulerScheduler", "m/model_index.json", "--sampling-method"]) {
    assert(error.message.includes(part), error.message);
  }
  assert(!error.message.includes("pipe."));
  assert(samplerOf({ samplingMethod: "ddim" }, unknown) instanceof DDIMScheduler);
});
