import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type HubOptions,
  type HubProgress,
  type HubTree,
  isHubId,
  openHub,
} from "../../../../pipeline/checkpoint/hub/hub.ts";
import { hubEnvironment } from "../../../../pipeline/checkpoint/hub/cache.ts";
import { pipelineFiles } from "../../../../pipeline/checkpoint/diffusers/pipeline_files.ts";
import { readAll } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { CheckpointError, HubError, PathError } from "../../../../pipeline/errors.ts";
import { brokenOff, FakeHub, rangeOf } from "./fake_hub.ts";
import { withEnvironment } from "../../../environment.ts";
import { temporaryFolder } from "../../output/folders.ts";

const weights = Uint8Array.from({ length: 300_000 }, (_, i) => i * 31 + (i >> 8));
const path = "unet/diffusion_pytorch_model.safetensors";

interface Bench {
  hub: FakeHub;
  cacheDir: string;
  folder: string;
  /** Opens the fake hub's model with quick retries. */
  open(options?: HubOptions): Promise<HubTree>;
}

/** Runs a test with a hub and an empty cache of its own. */
async function withHub(
  body: (bench: Bench) => Promise<void>,
  contents: Record<string, Uint8Array<ArrayBuffer> | string> = { [path]: weights, "unet/config.json": '{"a":1}' },
): Promise<void> {
  const hub = await FakeHub.start(contents);
  const cacheDir = await Deno.makeTempDir();
  const open = (options: HubOptions = {}) =>
    openHub(hub.id, { endpoint: hub.endpoint, cacheDir, token: "hf_test", retryDelayMs: 1, retries: 3, ...options });
  try {
    await body({ hub, cacheDir, folder: `${cacheDir}/models--owner--model`, open });
  } finally {
    await hub.stop();
    await Deno.remove(cacheDir, { recursive: true });
  }
}

async function bytesAt(tree: HubTree, at: string): Promise<Uint8Array> {
  const source = await tree.open(at);
  try {
    return await readAll(source);
  } finally {
    source.close?.();
  }
}

async function filesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) names.push(entry.name);
  } catch {
    return [];
  }
  return names.sort();
}

Deno.test("a hub model is a folder whose files are downloaded when first opened, and only once", async () => {
  await withHub(async ({ hub, open }) => {
    const tree = await open();
    assertEquals(tree.commit, hub.commit);
    assertEquals(await tree.list(), ["unet/"]);
    assertEquals(await tree.list("unet"), ["config.json", "diffusion_pytorch_model.safetensors"]);
    assert(await tree.has(path) && !await tree.has("unet"));
    assertEquals(hub.requests.length, 0);
    assertEquals(await tree.subtree("unet").readJson("config.json"), { a: 1 });
    assertEquals(hub.asked, ["unet/config.json"]);
    assertEquals(await bytesAt(tree, path), weights);
    const again = await open();
    assertEquals(await bytesAt(again, path), weights);
    assertEquals(hub.requests.length, 2);
    await assertRejects(() => tree.open("unet/none.json"), HubError, "no such file");
    await assertRejects(() => tree.open("../x"), PathError);
  });
});

Deno.test("the cache has the layout of Python's huggingface_hub", async () => {
  await withHub(async ({ hub, cacheDir, folder, open }) => {
    await (await open()).prefetch([path, "unet/config.json"]);
    assertEquals(await Deno.readTextFile(`${folder}/refs/main`), hub.commit);
    assertEquals(await filesIn(`${folder}/blobs`), [hub.hash(path), hub.hash("unet/config.json")].sort());
    assertEquals(hub.hash(path).length, 64);
    const pointer = `${folder}/snapshots/${hub.commit}/${path}`;
    assertEquals(await Deno.readLink(pointer), `../../../blobs/${hub.hash(path)}`);
    assertEquals(await Deno.readFile(pointer), weights);
    assertEquals(await filesIn(`${folder}/snapshots/${hub.commit}/unet`), [
      "config.json",
      "diffusion_pytorch_model.safetensors",
    ]);
    assert((await filesIn(`${cacheDir}/.locks/models--owner--model`)).includes(`${hub.hash(path)}.lock`));
  });
});

Deno.test("a blob that the cache holds for another commit is linked, not downloaded", async () => {
  await withHub(async ({ hub, folder, open }) => {
    await Deno.mkdir(`${folder}/blobs`, { recursive: true });
    await Deno.writeFile(`${folder}/blobs/${hub.hash(path)}`, weights);
    assertEquals(await bytesAt(await open(), path), weights);
    assertEquals(hub.requests.length, 0);
  });
});

Deno.test("a broken download resumes where it stopped", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt, offset }) =>
      attempt < 3 ? brokenOff(weights, { offset, end: 100_000 * attempt }) : undefined;
    assertEquals(await bytesAt(await open(), path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 100_000, 200_000]);
  });
});

Deno.test("a response body that ends early without an error is detected, and the download resumes", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt }) => attempt === 1 ? new Response(weights.slice(0, 1000)) : undefined;
    assertEquals(await bytesAt(await open(), path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 1000]);
  });
});

Deno.test("a stalled connection is aborted, and the download resumes", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt }) => attempt === 1 ? brokenOff(weights, { end: 1000, hangs: true }) : undefined;
    assertEquals(await bytesAt(await open({ stallTimeoutMs: 300 }), path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 1000]);
  });
});

Deno.test("a hub that stalls for good is an error: before the headers, within the body, or by a trickle", async () => {
  const trickle = (offset: number) =>
    new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        controller.enqueue(weights.slice(offset, ++offset));
      },
    });
  const cases: [answer: (offset: number) => Response | Promise<Response>, message: string][] = [
    [() => new Promise<Response>((resolve) => setTimeout(() => resolve(new Response()), 400)), "sent nothing for 0.1"],
    [(offset) => brokenOff(weights, { offset, end: offset, hangs: true }), "sent nothing for 0.1 seconds"],
    [(offset) => new Response(trickle(offset), rangeOf(weights, offset)), "bytes only for 0.1 seconds"],
  ];
  for (const [answer, message] of cases) {
    await withHub(async ({ hub, open }) => {
      hub.misbehave = ({ offset }) => answer(offset) as Response;
      const tree = await open({ stallTimeoutMs: 100, retries: 1 });
      await assertRejects(() => tree.open(path), HubError, message);
      assertEquals(hub.requests.length, 2);
    });
  }
  await withHub(async ({ hub, open }) => {
    hub.answerRevision = () => new Response(trickle(0));
    await assertRejects(() => open({ stallTimeoutMs: 100 }), HubError, "cannot be reached");
  });
});

Deno.test("a download from a server without range support restarts from the beginning", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt }) => attempt === 1 ? brokenOff(weights, { end: 1000 }) : new Response(weights);
    assertEquals(await bytesAt(await open(), path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 1000]);
  });
});

Deno.test("a response with another range than requested is rejected", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt, offset }) => {
      if (attempt === 1) return new Response(weights.slice(0, 1000));
      if (attempt === 2) return rangeOf(weights, offset - 500);
    };
    assertEquals(await bytesAt(await open(), path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 1000, 0]);
  });
});

for (const at of [path, "unet/config.json"]) {
  Deno.test(`wrong bytes of the right length are thrown away: once is forgiven, twice is an error (${at})`, async () => {
    await withHub(async ({ hub, folder, open }) => {
      const wrong = hub.bytes(at).map((byte) => byte ^ 1);
      hub.misbehave = () => new Response(wrong);
      const error = await assertRejects(() => bytesAtOf(open, at), HubError, hub.hash(at)) as HubError;
      assert(error.message.includes("but the hub announced"));
      assertEquals(await filesIn(`${folder}/blobs`), []);
      assertEquals(await filesIn(`${folder}/snapshots/${hub.commit}`), []);
      hub.misbehave = ({ attempt }) => attempt === 3 ? new Response(wrong) : undefined;
      assertEquals(await bytesAtOf(open, at), hub.bytes(at));
    });
  });
}

async function bytesAtOf(open: Bench["open"], at: string): Promise<Uint8Array> {
  return await bytesAt(await open(), at);
}

Deno.test("more bytes than announced are an error", async () => {
  await withHub(async ({ hub, folder, open }) => {
    hub.misbehave = () => new Response(Uint8Array.from([...weights, 0]));
    await assertRejects(() => bytesAtOf(open, path), HubError, "more than the 300000 bytes");
    assertEquals(await filesIn(`${folder}/blobs`), []);
  });
});

Deno.test("a partial file that is too long or wrong is downloaded again from the beginning", async () => {
  for (const left of [new Uint8Array(300_001), new Uint8Array(300_000), new Uint8Array(1000)]) {
    await withHub(async ({ hub, folder, open }) => {
      await Deno.mkdir(`${folder}/blobs`, { recursive: true });
      await Deno.writeFile(`${folder}/blobs/${hub.hash(path)}.incomplete`, left);
      assertEquals(await bytesAtOf(open, path), weights);
      assertEquals(await filesIn(`${folder}/blobs`), [hub.hash(path)]);
    });
  }
});

Deno.test("a busy hub is retried; if it stays busy, the download fails and keeps the partial file", async () => {
  await withHub(async ({ hub, folder, open }) => {
    hub.misbehave = ({ attempt }) =>
      attempt === 1
        ? new Response(null, { status: 429, headers: { "Retry-After": "0" } })
        : attempt < 4
        ? new Response(null, { status: 503 })
        : undefined;
    assertEquals(await bytesAtOf(open, path), weights);
    assertEquals(hub.requests.length, 4);

    hub.misbehave = () => new Response(null, { status: 500 });
    await assertRejects(() => bytesAtOf(open, "unet/config.json"), HubError, "status 500");
    assertEquals(hub.requests.length, 4 + 4);
    assert((await filesIn(`${folder}/blobs`)).includes(`${hub.hash("unet/config.json")}.incomplete`));
  });
});

Deno.test("a listed file that is missing or forbidden is an error without retries", async () => {
  for (const status of [404, 403]) {
    await withHub(async ({ hub, open }) => {
      hub.misbehave = () => new Response(null, { status });
      const error = await assertRejects(() => bytesAtOf(open, path), HubError, `status ${status}`) as HubError;
      assertEquals(error.status, status);
      assertEquals(hub.requests.length, 1);
    });
  }
});

Deno.test("redirects are followed, and the token is sent only to the hub", async () => {
  await withHub(async ({ hub, open }) => {
    const seen: (string | null)[] = [];
    const storage = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      seen.push(request.headers.get("Authorization"));
      const range = /^bytes=(\d+)-$/.exec(request.headers.get("Range") ?? "");
      return range === null ? new Response(weights.slice(0, 1000)) : rangeOf(weights, Number(range[1]));
    });
    hub.misbehave = () => Response.redirect(`http://127.0.0.1:${storage.addr.port}/x`, 302);
    assertEquals(await bytesAtOf(open, path), weights);
    assertEquals(hub.requests.map(({ authorization }) => authorization), ["Bearer hf_test", "Bearer hf_test"]);
    assertEquals(seen, [null, null]);
    await storage.shutdown();
  });
});

Deno.test("endless redirects and redirects to another protocol are rejected", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = () => Response.redirect(`${hub.endpoint}/${hub.id}/resolve/main/${path}`, 302);
    await assertRejects(() => bytesAtOf(open, path), HubError, "more than 5 times");
    hub.misbehave = () => new Response(null, { status: 302, headers: { Location: "file:///etc/passwd" } });
    await assertRejects(() => bytesAtOf(open, path), HubError, "leaves https");
  });
});

Deno.test("an aborted download keeps its partial file, and the next one resumes", async () => {
  await withHub(async ({ hub, open }) => {
    hub.misbehave = ({ attempt }) => attempt === 1 ? brokenOff(weights, { end: 1000, hangs: true }) : undefined;
    const controller = new AbortController();
    const onProgress = ({ fileBytes }: HubProgress) => fileBytes >= 1000 && controller.abort(new Error("enough"));
    const tree = await open({ signal: controller.signal, onProgress });
    await assertRejects(() => tree.prefetch([path]), Error, "enough");
    assertEquals(await bytesAtOf(open, path), weights);
    assertEquals(hub.requests.map(({ offset }) => offset), [0, 1000]);
  });
});

Deno.test("progress rises to the total size of all files, even if parts are cached", async () => {
  await withHub(async ({ open }) => {
    const reports: HubProgress[] = [];
    const tree = await open({ onProgress: (progress) => reports.push(progress) });
    const total = weights.length + 7;
    for (let round = 0; round < 2; round++) {
      reports.length = 0;
      await tree.prefetch([path, "unet/config.json", path]);
      assert(reports.every(({ size, fileBytes, fileSize }) => size === total && fileBytes <= fileSize));
      assert(reports.every(({ bytes }, i) => i === 0 || bytes >= reports[i - 1].bytes));
      assertEquals(reports.at(-1)?.bytes, total);
      assertEquals(new Set(reports.map((report) => report.path)), new Set([path, "unet/config.json"]));
    }
  });
});

Deno.test("two concurrent requests for a file download it once", async () => {
  await withHub(async ({ hub, open }) => {
    const trees = await Promise.all([open(), open(), open()]);
    for (const bytes of await Promise.all(trees.map((tree) => bytesAt(tree, path)))) assertEquals(bytes, weights);
    assertEquals(hub.requests.length, 1);
  });
});

Deno.test("a download waits for another process that holds the file's lock, then uses its result", async () => {
  await withHub(async ({ hub, cacheDir, folder, open }) => {
    await Deno.mkdir(`${cacheDir}/.locks/models--owner--model`, { recursive: true });
    const lockPath = `${cacheDir}/.locks/models--owner--model/${hub.hash(path)}.lock`;
    // Another process acquires the lock, reports it, and releases it when its input ends.
    const script = `
      const file = await Deno.open(${JSON.stringify(lockPath)}, { write: true, create: true });
      await file.lock(true);
      console.log("locked");
      await Deno.stdin.read(new Uint8Array(1));
    `;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const output = child.stdout.getReader();
    await output.read();
    const tree = await open();
    let isDone = false;
    const download = tree.prefetch([path]).then(() => isDone = true);
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert(!isDone && hub.requests.length === 0);
    await Deno.mkdir(`${folder}/blobs`, { recursive: true });
    await Deno.writeFile(`${folder}/blobs/${hub.hash(path)}`, weights);
    await child.stdin.close();
    await output.cancel();
    await child.status;
    await download;
    assertEquals(hub.requests.length, 0);
    assertEquals(await bytesAt(tree, path), weights);
  });
});

Deno.test("localFilesOnly opens a cached branch without network requests, and names what is not cached", async () => {
  await withHub(async ({ hub, cacheDir, open }) => {
    const offline = { localFilesOnly: true, cacheDir, endpoint: "http://127.0.0.1:1" };
    await assertRejects(() => openHub(hub.id, offline), HubError, "this revision is not cached");
    await (await open()).prefetch(["unet/config.json"]);
    const count = hub.requests.length;
    for (const revision of ["main", hub.commit]) {
      const tree = await openHub(hub.id, { ...offline, revision });
      assertEquals(tree.commit, hub.commit);
      assertEquals(await tree.readJson("unet/config.json"), { a: 1 });
      await tree.prefetch(["unet/config.json"]);
      await assertRejects(() => tree.prefetch([path]), HubError, path);
    }
    await assertRejects(() => openHub(hub.id, { ...offline, revision: "fp16" }), HubError, "this revision");
    assertEquals(hub.requests.length, count);
  });
});

Deno.test("a branch in the cache that names no commit is not followed out of the cache", async () => {
  await withHub(async ({ hub, cacheDir, open }) => {
    await (await open()).prefetch(["unet/config.json"]);
    const ref = `${cacheDir}/models--owner--model/refs/main`;
    for (const text of ["../../../../outside", "/etc", "", hub.commit + "/.."]) {
      await Deno.writeTextFile(ref, text);
      await assertRejects(
        () => openHub(hub.id, { localFilesOnly: true, cacheDir }),
        HubError,
        "this revision is not cached",
      );
    }
  });
});

Deno.test("a link in the cache that leads out of it is not read, online or offline", async () => {
  await withHub(async ({ hub, cacheDir, open }) => {
    await (await open()).prefetch(["unet/config.json"]);
    const folder = `${cacheDir}/models--owner--model`, link = `${folder}/snapshots/${hub.commit}/unet/config.json`;
    const config = await Deno.readTextFile(link);
    const outside = `${cacheDir}/outside.json`;
    await Deno.writeTextFile(outside, config); // of the same size, so that it passes for the blob
    await Deno.remove(link);
    await Deno.symlink(outside, link);
    for (const tree of [await open(), await open({ localFilesOnly: true })]) {
      await assertRejects(() => tree.readJson("unet/config.json"), CheckpointError, "leads out of the cache");
    }
    // The blobs may lie on another disk.
    await Deno.rename(`${folder}/blobs`, `${cacheDir}/moved`);
    await Deno.symlink(`${cacheDir}/moved`, `${folder}/blobs`);
    await Deno.remove(link);
    await (await open()).prefetch(["unet/config.json"]);
    assertEquals(await (await open({ localFilesOnly: true })).readJson("unet/config.json"), { a: 1 });
  });
});

Deno.test("a list of files that does not end is an error", async () => {
  await withHub(async ({ hub, open }) => {
    hub.endless = true;
    await assertRejects(() => open(), HubError, "a list of files that does not end");
    assertEquals(hub.listings, 999);
    // Neither may slow pages add up: here each takes 25 s, and all may take 300 s.
    hub.listings = 0;
    const { now } = performance;
    let ms = 0;
    performance.now = () => ms += 25_000;
    try {
      await assertRejects(() => open(), HubError, "a list of files that does not end");
      assertEquals(hub.listings, 11);
    } finally {
      performance.now = now;
    }
  });
});

Deno.test("the hub's metadata is validated: status, commit, paths, sizes, hashes", async () => {
  await withHub(async ({ hub, open }) => {
    await assertRejects(() => open({ revision: "none" }), HubError, "no such model or revision");
    for (const [status, hint] of [[401, "token"], [403, "accept the terms"], [500, "status 500"]] as const) {
      hub.answerRevision = () => Response.json({ error: "no" }, { status });
      const error = await assertRejects(() => open(), HubError, hint) as HubError;
      assertEquals(error.status, status);
    }
    hub.answerRevision = () => Response.json({ id: hub.id, sha: "../../x" });
    await assertRejects(() => open(), HubError, "no commit");
    hub.answerRevision = () => new Response("<html>");
    await assertRejects(() => open(), HubError);
    hub.answerRevision = () => undefined;

    const alterFirst = (change: Record<string, unknown>) => (entries: Record<string, unknown>[]) => [
      { ...entries[0], ...change },
      ...entries.slice(1),
    ];
    hub.alterListing = alterFirst({ path: "../../evil" });
    await assertRejects(() => open(), PathError, "../../evil");
    for (
      const lfs of [{ oid: "../../x", size: 3 }, { oid: "a".repeat(40), size: 3 }, { oid: "a".repeat(64), size: -1 }]
    ) {
      hub.alterListing = alterFirst({ lfs });
      await assertRejects(() => open(), HubError, "no size and hash");
    }
  });
  await assertRejects(() => openHub("a/b/c"), HubError, "OWNER/NAME");
  await assertRejects(() => openHub("a/b", { revision: "../x" }), PathError);
});

Deno.test("the error for an unreachable hub mentions the cache", async () => {
  const cacheDir = await Deno.makeTempDir();
  const unreachable = openHub("owner/model", { endpoint: "http://127.0.0.1:1", cacheDir });
  await assertRejects(() => unreachable, HubError, "localFilesOnly");
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("for a pipeline only needed files are downloaded: the weights of each model once, and no pickles", async () => {
  const model = (folder: string, base: string, variant = true): Record<string, string> => ({
    [`${folder}/config.json`]: `{"of":"${folder}"}`,
    [`${folder}/${base}.safetensors`]: `${folder} f32`,
    [`${folder}/${base}.bin`]: "pickle",
    ...(variant ? { [`${folder}/${base}.fp16.safetensors`]: `${folder} f16` } : {}),
  });
  const index = {
    _class_name: "StableDiffusionPipeline",
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    scheduler: ["diffusers", "PNDMScheduler"],
    safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"],
    feature_extractor: ["transformers", "CLIPImageProcessor"],
  };
  const contents: Record<string, string> = {
    "model_index.json": JSON.stringify(index),
    "README.md": "no",
    "v1-5-pruned.safetensors": "the same in one file",
    ...model("unet", "diffusion_pytorch_model"),
    ...model("vae", "diffusion_pytorch_model", false),
    ...model("text_encoder", "model"),
    ...model("safety_checker", "model"),
    "text_encoder/flax_model.msgpack": "no",
    // All contents differ, because equal contents share one blob and are downloaded once.
    "tokenizer/vocab.json": '{"a":0}',
    "tokenizer/merges.txt": "#version: 0.2",
    "tokenizer/tokenizer_config.json": "{}",
    "scheduler/scheduler_config.json": "{ }",
    "feature_extractor/preprocessor_config.json": "{  }",
  };
  const expected = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
  ];
  await withHub(async ({ hub, cacheDir, open }) => {
    const tree = await open();
    const without = ["safety_checker", "feature_extractor"] as const;
    await tree.prefetch(await pipelineFiles(tree, { variant: "fp16", without }));
    assertEquals(hub.asked, expected);
    const cached = await openHub(hub.id, { localFilesOnly: true, cacheDir });
    await cached.prefetch(await pipelineFiles(cached, { variant: "fp16", without }));
    assertEquals((await pipelineFiles(tree)).filter((file) => file.startsWith("safety_checker")), [
      "safety_checker/config.json",
      "safety_checker/model.safetensors",
    ]);
    await assertRejects(() => pipelineFiles(tree, { variant: "bf16" }), CheckpointError, 'variant "bf16"');
    await assertRejects(() => tree.open("unet/diffusion_pytorch_model.bin"), CheckpointError, "pickle");
    assert(!hub.requests.some((request) => request.path.endsWith(".bin")));
  }, contents);

  const onlyPickle = Object.entries(contents).filter(([name]) => name !== "vae/diffusion_pytorch_model.safetensors");
  await withHub(async ({ open }) => {
    const tree = await open();
    await assertRejects(() => pipelineFiles(tree), CheckpointError, "diffusion_pytorch_model.bin: it is a pickle");
  }, Object.fromEntries(onlyPickle));
});

Deno.test("hubEnvironment() reads the variables of Python's client, in its order", async () => {
  const names = [
    ...["HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"],
    ...["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"],
  ];
  const variables: Record<string, string | undefined> = Object.fromEntries(names.map((name) => [name, undefined]));
  await using folder = await temporaryFolder();
  const home = folder.path;
  await withEnvironment(variables, async () => {
    variables.HOME = home;
    const plain = { endpoint: "https://huggingface.co", cacheDir: `${home}/.cache/huggingface/hub`, offline: false };
    assertEquals(await hubEnvironment(), { ...plain, token: undefined });

    await Deno.mkdir(`${home}/hf`);
    await Deno.writeTextFile(`${home}/hf/token`, "hf_saved\n");
    variables.HF_HOME = `${home}/hf`;
    assertEquals(await hubEnvironment(), { ...plain, cacheDir: `${home}/hf/hub`, token: "hf_saved" });

    Object.assign(variables, {
      HF_HUB_CACHE: "/cache",
      HF_TOKEN: "hf_set",
      HF_ENDPOINT: "https://mirror.example/",
      HF_HUB_OFFLINE: "1",
    });
    const set = { endpoint: "https://mirror.example", cacheDir: "/cache", token: "hf_set", offline: true };
    assertEquals(await hubEnvironment(), set);
  });
});

Deno.test("isHubId() distinguishes model ids from paths", () => {
  const ids = ["gpt2", "CompVis/stable-diffusion-v1-4", "runwayml/stable-diffusion-v1-5", "a/b.c_d"];
  for (const id of ids) assert(isHubId(id), id);
  for (const text of ["", "/a", "./a", "a/b/c", "a--b/c", "a/..", "models/", "a b", "a/b.git", "~/x", "-a", "a/b-"]) {
    assert(!isHubId(text), text);
  }
});
