/**
 * What goes out of the page and comes in: files, links, dropped pictures, edits, LoRAs and models.
 *
 * @module
 */

import { type Signal, signal } from "@preact/signals";
import type { DroppedContent, ModelChoice, ModelEstimate, SavedFile } from "../painter.ts";
import * as actions from "./actions.ts";
import { type Controller, failureOf } from "./controller.ts";
import type { DroppedFile } from "./dropped_files.ts";
import type { HistoryStore } from "./history.ts";
import { LinkError, linkFragment, readFragment } from "./link.ts";
import { sheetOf } from "./sheet.ts";
import { cardsOf } from "./stage.ts";
import { defaultRecipe, type Drawn, modelName, recipeOf, type State } from "./state.ts";
import type { Store } from "./store.ts";

/** What was dropped on the page, for the visitor to decide on. */
export type Offer =
  | { readonly kind: "content"; readonly name: string; readonly file: File; readonly content: DroppedContent }
  | { readonly kind: "model"; readonly choice: ModelChoice; readonly name: string; readonly estimate?: ModelEstimate };

/** Saves, shares and receives. */
export class Desk {
  /** What waits for the visitor's decision. */
  readonly offer: Signal<Offer | undefined> = signal(undefined);
  /** Where the visitor's last model lies, if the browser remembers. */
  readonly remembered: Signal<FileSystemHandle | undefined> = signal(undefined);
  readonly #store: Store;
  readonly #controller: Controller;
  readonly #history: HistoryStore | undefined;

  constructor(store: Store, controller: Controller, history: HistoryStore | undefined) {
    this.#store = store;
    this.#controller = controller;
    this.#history = history;
    void history?.rememberedModel().then((handle) => this.remembered.value = handle, () => {});
  }

  /** Saves the picture after the edit of the card that had the focus last, else of the first. */
  async savePicture(): Promise<void> {
    const picture = pictureToSave(this.#store.now);
    if (picture === undefined) {
      this.#say("Nothing to save yet", "Draw first: a picture is saved as it is shown.");
      return;
    }
    const { request, pixels } = picture;
    const withText = this.#store.now.textInPictures;
    await this.#saving(() => this.#controller.painter.encode(request, pixels, { withText }));
  }

  /** Saves all pictures on show as one sheet, before above after. */
  async saveSheet(): Promise<void> {
    const cards = cardsOf(this.#store.now).filter(({ before, after }) => before ?? after);
    if (cards.length === 0) return this.#say("Nothing to save yet", "Draw first: the sheet shows what is drawn.");
    await this.#saving(async () => {
      const png = await sheetOf(cards);
      return { name: "blue-rose-sheet.png", type: "image/png", bytes: new Uint8Array(await png.arrayBuffer()) };
    });
  }

  /** Saves the open edit. */
  async saveEdit(): Promise<void> {
    const { edits, open } = this.#store.now;
    await this.#saving(() => this.#controller.painter.saveEdit(edits[open].spec));
  }

  /** Saves all edits that are on as one LoRA. */
  async saveLora(): Promise<void> {
    await this.#saving(() => this.#controller.painter.saveLora(recipeOf(this.#store.now).edits));
  }

  /** Copies a link that holds the recipe, and puts it into the address bar. */
  async copyLink(): Promise<void> {
    const state = this.#store.now;
    let fragment: string;
    try {
      fragment = await linkFragment({ recipe: recipeOf(state), model: modelName(state) });
    } catch (error) {
      if (!(error instanceof LinkError)) throw error;
      return this.#warn("The link cannot be made", error.message);
    }
    history.replaceState(null, "", `#${fragment}`);
    try {
      // Without the query: it may hold the token of a server.
      await navigator.clipboard.writeText(`${location.origin}${location.pathname}#${fragment}`);
      this.#say("Link copied", "It holds the edits, the prompts and the settings, and no pictures. Nothing was sent.");
    } catch {
      this.#say("Copy the link from the address bar", "The browser does not let this page write to the clipboard.");
    }
  }

  /** Takes over the recipe of the page's address, if it has one. */
  async readLink(): Promise<void> {
    try {
      const linked = await readFragment(location.hash);
      if (linked === undefined) return;
      this.#store.dispatch(actions.useRecipe, linked.recipe);
      this.#linkedModel = linked.model;
    } catch (error) {
      if (!(error instanceof LinkError)) throw error;
      this.#warn("The link cannot be used", error.message);
    }
  }

  /** Says so if the link was made with another model than the open one. */
  compareLinkedModel(): void {
    const open = modelName(this.#store.now);
    if (this.#linkedModel === undefined || this.#linkedModel === "" || this.#linkedModel === open) return;
    this.#say(
      "The link was made with another model",
      `It was “${this.#linkedModel}”. Open that model to draw the same.`,
    );
    this.#linkedModel = undefined;
  }
  #linkedModel: string | undefined;

  /** Takes over the settings of an entry of history; says so if it was drawn with another model. */
  useEntry(id: number): void {
    const entry = this.#store.now.history.find((entry) => entry.id === id);
    this.#store.dispatch(actions.useEntry, id);
    if (entry === undefined || entry.model === modelName(this.#store.now)) return;
    this.#say("These pictures are of another model", `They were drawn with “${entry.model}”.`);
  }

  /** Looks at what was dropped or chosen, and offers to use it. */
  async receive(name: string, files: readonly DroppedFile[], handle?: FileSystemHandle): Promise<void> {
    if (files.length === 0) return;
    if (files.length > 1 || files[0].path.includes("/")) return await this.#offerModel(modelOf(name, files), handle);
    const [{ file }] = files;
    try {
      const content = await this.#controller.painter.read(file, file.name);
      if (content.kind === "model") return await this.#offerModel({ kind: "file", name: file.name, file }, handle);
      this.offer.value = { kind: "content", name: file.name, file, content };
    } catch (error) {
      this.refuse(file.name, error);
    }
  }

  /** Opens the model that the browser remembers, after asking for permission. */
  async reopenRemembered(): Promise<void> {
    const handle = this.remembered.value;
    if (handle === undefined) return;
    const { filesOfHandle } = await import("./dropped_files.ts");
    try {
      await this.receive(handle.name, await filesOfHandle(handle), handle);
    } catch (error) {
      this.refuse(handle.name, error);
    }
  }

  /** Uses what was offered. `part` takes only the edits of a picture. */
  async accept(part?: "edits"): Promise<void> {
    const offer = this.offer.value;
    this.offer.value = undefined;
    if (offer === undefined) return;
    if (offer.kind === "model") return await this.#controller.open(offer.choice);
    const { content, file, name } = offer;
    const store = this.#store;
    if (content.kind === "picture") {
      const { prompt, settings, edits } = content;
      const recipe = recipeOf(store.now);
      const known = recipe.prompts.some(({ text }) => text === prompt);
      store.dispatch(actions.useRecipe, {
        edits,
        prompts: known || part === "edits"
          ? recipe.prompts
          : [...recipe.prompts, { text: prompt, group: "related" as const }],
        settings: part === "edits" ? recipe.settings : settings,
      });
    } else if (content.kind === "edit") {
      store.dispatch(actions.addEdit, content.edit);
    } else if (content.kind === "lora") {
      try {
        await this.#controller.painter.useLora(file, name);
        store.dispatch(actions.setLoras, [...store.now.loras, name]);
      } catch (error) {
        this.#controller.report(`${name} cannot be used`, error);
      }
    }
  }

  /** Takes all LoRAs out of the model. */
  async removeLoras(): Promise<void> {
    try {
      await this.#controller.painter.useLora(null, "");
      this.#store.dispatch(actions.setLoras, []);
    } catch (error) {
      this.#controller.report("The LoRAs cannot be removed", error);
    }
  }

  /** Starts over with the recipe that a visitor finds. */
  reset(): void {
    this.#store.dispatch(actions.useRecipe, defaultRecipe);
  }

  async #offerModel(choice: ModelChoice, handle: FileSystemHandle | undefined): Promise<void> {
    const name = "name" in choice ? choice.name : "";
    this.offer.value = { kind: "model", choice, name };
    try {
      const estimate = await this.#controller.painter.estimate(choice);
      this.offer.value = { kind: "model", choice, name, estimate };
      if (handle !== undefined) {
        this.remembered.value = handle;
        await this.#history?.rememberModel(handle).catch(() => {});
      }
    } catch (error) {
      this.offer.value = undefined;
      this.refuse(name, error);
    }
  }

  /** Says that something cannot be used, and why. */
  refuse(name: string, error: unknown): void {
    const { kind, message } = failureOf(error);
    if (kind === "aborted") return;
    this.#store.dispatch(actions.notify, {
      tone: "error" as const,
      title: `${name} cannot be used`,
      text: message,
      actions: [{ label: "Choose another file", action: "choose-model" as const }],
    });
  }

  async #saving(make: () => Promise<SavedFile>): Promise<void> {
    try {
      download(await make());
    } catch (error) {
      this.#controller.report("The file cannot be saved", error);
    }
  }

  #say(title: string, text: string): void {
    this.#store.dispatch(actions.notify, { tone: "calm" as const, title, text });
  }

  #warn(title: string, text: string): void {
    this.#store.dispatch(actions.notify, { tone: "error" as const, title, text });
  }
}

/** Hands a file to the browser's downloads. */
export function download({ name, type, bytes }: SavedFile): void {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function pictureToSave(state: State): Drawn | undefined {
  const cards = cardsOf(state).filter(({ before, after }) => before ?? after);
  const card = cards.find(({ id }) => id === state.focused) ?? cards[0];
  return card?.after ?? card?.before;
}

function modelOf(name: string, files: readonly DroppedFile[]): ModelChoice {
  const single = files.filter(({ path }) => path.endsWith(".safetensors"));
  const isFolder = files.some(({ path }) => path.endsWith("model_index.json"));
  if (!isFolder && single.length === 1) {
    const tokenizer = files.filter((file) => file !== single[0]);
    return { kind: "file", name: single[0].file.name, file: single[0].file, tokenizer };
  }
  return { kind: "folder", name, files };
}
