/** Sheets over the page: drawing settings, the model, and what was dropped. @module */

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import * as actions from "../actions.ts";
import { filesOfInput } from "../dropped_files.ts";
import { megabytes } from "../stage.ts";
import { methodOf } from "../../edit_methods.ts";
import type { PairSpec } from "../../painter.ts";
import { lambdaText, percent } from "../state.ts";
import { dialog, medium, narrow, useStudio } from "./context.ts";
import {
  ClipSkipDial,
  GuidanceDial,
  NegativePromptField,
  SamplerDial,
  SecondPromptFields,
  SeedDial,
  SideDial,
  SizeDial,
  StepsDial,
} from "./dials.tsx";
import { Icon } from "./icons.tsx";
import { Switch } from "./switch.tsx";

/** A modal dialog with a head. Escape and a press beside it close it. */
export function Sheet({ title, onClose, class: style = "", children }: {
  title: ComponentChildren;
  onClose: () => void;
  class?: string;
  children: ComponentChildren;
}): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    element.current!.showModal();
  }, []);
  return (
    <dialog
      ref={element}
      class={`card-sheet ${style}`}
      aria-labelledby={id}
      onClose={onClose}
      onPointerDown={(event) => event.target === element.current && element.current!.close()}
    >
      <div class="inside">
        <div class="sheet-head">
          <h2 id={id}>{title}</h2>
          <span class="spring" />
          <button class="btn square" type="button" aria-label="Close" onClick={() => element.current!.close()}>
            <Icon name="x" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}

/** All drawing settings that the dock has no room for. */
export function SettingsSheet(): JSX.Element {
  const { store, desk, controller, places } = useStudio();
  const { textInPictures, model } = store.state.value;
  return (
    <Sheet title="Drawing settings" onClose={() => dialog.value = undefined}>
      <div class="settings">
        <NegativePromptField />
        <SecondPromptFields />
        {narrow.value && (
          <>
            <SeedDial />
            <StepsDial />
          </>
        )}
        {medium.value && (
          <>
            <GuidanceDial />
            <SamplerDial />
            <SizeDial />
          </>
        )}
        <SideDial side="width" />
        <SideDial side="height" />
        <ClipSkipDial />
        {places.server && (
          <label class="num full">
            <span>Draws in</span>
            <select
              aria-label="Draws in"
              value={controller.painter.place}
              onChange={(event) => {
                const place = places[event.currentTarget.value as "browser" | "server"]!;
                void controller.usePainter(place.painter(), place.choice);
              }}
            >
              <option value="browser" selected={controller.painter.place === "browser"}>This browser</option>
              <option value="server" selected={controller.painter.place === "server"}>The server</option>
            </select>
          </label>
        )}
        <p class="full device">
          Draws on {model.status === "open" ? model.facts.device : "no device yet"}.{" "}
          <button class="btn line" type="button" onClick={() => dialog.value = "model"}>Choose a model</button>
        </p>
        <label class="full choice">
          <Switch
            checked={textInPictures}
            onChange={() => store.dispatch(actions.setTextInPictures, !textInPictures)}
          />
          Settings as text in saved pictures
        </label>
        {narrow.value && (
          <p class="full acts">
            <button class="btn line" type="button" onClick={() => desk.savePicture()}>Save picture</button>
            <button class="btn line" type="button" onClick={() => desk.saveSheet()}>Save sheet</button>
            <button
              class="btn line"
              type="button"
              disabled={model.status !== "open"}
              onClick={() => dialog.value = "grid"}
            >
              Grid
            </button>
          </p>
        )}
      </div>
    </Sheet>
  );
}

/** The visitor's own model. */
export function ModelSheet(): JSX.Element {
  const { desk, controller, store, places } = useStudio();
  const own = places[controller.painter.place]!.choice;
  const { loras } = store.state.value;
  const remembered = desk.remembered.value;
  const take = (event: JSX.TargetedEvent<HTMLInputElement>) => {
    const { files } = event.currentTarget;
    dialog.value = undefined;
    if (files === null) return;
    const { name, files: inside } = filesOfInput(files);
    void desk.receive(name, inside);
  };
  return (
    <Sheet title="The model" onClose={() => dialog.value === "model" && (dialog.value = undefined)}>
      <div class="drop">
        <Icon name="drop" />
        <strong>Your own model</strong>
        <p>
          Drop a diffusers folder or a .safetensors file of Stable Diffusion 1.x, 2.x or XL. It is read on this machine
          and goes nowhere else.
        </p>
        <div>
          <label class="btn line">
            Choose a file
            <input class="sr" type="file" accept=".safetensors,.png,.json,.txt" multiple onChange={take} />
          </label>
          <label class="btn line">
            Choose a folder
            <input class="sr" type="file" {...{ webkitdirectory: true }} onChange={take} />
          </label>
        </div>
        {remembered !== undefined && (
          <button
            class="btn line"
            type="button"
            onClick={() => {
              dialog.value = undefined;
              void desk.reopenRemembered();
            }}
          >
            Open {remembered.name} again
          </button>
        )}
      </div>
      <p class="acts">
        <button
          class="btn line"
          type="button"
          onClick={() => {
            dialog.value = undefined;
            void controller.open(own);
          }}
        >
          Use {own.kind === "served" ? "the server’s model" : "the pocket model"}
        </button>
        {loras.length > 0 && (
          <button class="btn line" type="button" onClick={() => desk.removeLoras()}>
            Remove {loras.length === 1 ? "the LoRA" : `${loras.length} LoRAs`}
          </button>
        )}
      </p>
    </Sheet>
  );
}

/** What was dropped, and what can be done with it. */
export function OfferSheet(): JSX.Element | null {
  const { desk } = useStudio();
  const offer = desk.offer.value;
  if (offer === undefined) return null;
  const close = () => desk.offer.value = undefined;
  if (offer.kind === "model") {
    const { estimate, name } = offer;
    return (
      <Sheet title={name} onClose={close}>
        <p>{estimate?.message ?? "Reading what it holds…"}</p>
        {estimate && (
          <div class="fits">
            <div>
              <span>Memory it needs</span>
              <span>{megabytes(estimate.bytes)} MB</span>
            </div>
            <div>
              <span>Largest piece that the device takes</span>
              <span>{megabytes(estimate.limit)} MB</span>
            </div>
          </div>
        )}
        <p class="acts">
          <button class="btn line" type="button" disabled={!estimate?.fits} onClick={() => desk.accept()}>
            Open this model
          </button>
          <button class="btn" type="button" onClick={close}>Leave it</button>
        </p>
      </Sheet>
    );
  }
  const { content, name } = offer;
  if (content.kind === "picture") {
    const { prompt, settings, edits } = content;
    return (
      <Sheet title="This picture carries its settings" onClose={close}>
        <Facts
          facts={[
            ["Prompt", prompt],
            ...edits.map((edit): [string, string] => [
              "Edit",
              `${edit.pairs.map(pairText).join("; ")}; ${methodOf(edit).label}, λ ${lambdaText(edit.lambda)}, ${
                percent(edit.strength)
              }`,
            ]),
            ["Seed, steps", `${settings.seed}, ${settings.steps}`],
            ["Sampler, guidance", `${settings.sampler}, ${settings.guidance}`],
            ["Size", `${settings.width} × ${settings.height}`],
          ]}
        />
        <p class="acts">
          <button class="btn line" type="button" onClick={() => desk.accept()}>Use these settings</button>
          {edits.length > 0 && (
            <button class="btn" type="button" onClick={() => desk.accept("edits")}>Only the edit</button>
          )}
          <button class="btn" type="button" onClick={close}>Leave it</button>
        </p>
      </Sheet>
    );
  }
  if (content.kind === "edit") {
    const { pairs, lambda, preserve } = content.edit;
    const { label } = methodOf(content.edit);
    return (
      <Sheet title={name} onClose={close}>
        <Facts
          facts={[
            ...pairs.map((pair): [string, string] => ["Edit", pairText(pair)]),
            ["Method", label],
            ["λ", lambdaText(lambda)],
            ...(preserve.length > 0 ? [["Preserves", preserve.join(", ")] as [string, string]] : []),
          ]}
        />
        <p class="acts">
          <button class="btn line" type="button" onClick={() => desk.accept()}>Add this edit</button>
          <button class="btn" type="button" onClick={close}>Leave it</button>
        </p>
      </Sheet>
    );
  }
  return (
    <Sheet title={name} onClose={close}>
      <p>{content.summary}</p>
      <p class="acts">
        <button class="btn line" type="button" onClick={() => desk.accept()}>Use it as a LoRA</button>
        <button class="btn" type="button" onClick={close}>Leave it</button>
      </p>
    </Sheet>
  );
}

function pairText({ source, destination }: PairSpec): string {
  return `${source} → ${destination || "nothing"}`;
}

function Facts({ facts }: { facts: readonly (readonly [string, string])[] }): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([term, text], i) => (
        <div key={i}>
          <dt>{term}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}
