/** The fields of the drawing settings. @module */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import * as v from "valibot";
import type { DrawSettings } from "../../painter.ts";
import * as actions from "../actions.ts";
import { maxPrompt, maxSide, maxSteps, seedSchema } from "../recipe_schema.ts";
import { useStudio } from "./context.ts";

/** A number field. What is typed counts as soon as it is a number in bounds. */
export function NumberDial({ label, value, step = 1, min, max, accept }: {
  label: string;
  value: string;
  step?: number | "any";
  min: number;
  max?: number;
  /** Takes the text, and says whether it is a value. */
  accept: (text: string) => boolean;
}): JSX.Element {
  const [draft, setDraft] = useState<string>();
  const [invalid, setInvalid] = useState(false);
  return (
    <label class="num">
      <span>{label}</span>
      <input
        type="number"
        value={draft ?? value}
        min={min}
        max={max}
        step={step}
        aria-label={label}
        aria-invalid={invalid || undefined}
        onInput={(event) => {
          const text = event.currentTarget.value;
          setDraft(text);
          setInvalid(!accept(text));
        }}
        onBlur={() => {
          setDraft(undefined);
          setInvalid(false);
        }}
      />
    </label>
  );
}

function useSettings(): [DrawSettings, (change: Partial<DrawSettings>) => void] {
  const { store } = useStudio();
  return [store.state.value.settings, (change) => store.dispatch(actions.setSettings, change)];
}

/** Accepts numbers within bounds. */
export function accepting(
  min: number,
  max: number,
  whole: boolean,
  set: (value: number) => void,
): (text: string) => boolean {
  return (text) => {
    const value = Number(text);
    const fits = text.trim() !== "" && value >= min && value <= max && (!whole || Number.isInteger(value));
    if (fits) set(value);
    return fits;
  };
}

/** The seed of the noise: decimal digits, up to 2⁶⁴ − 1. */
export function SeedDial(): JSX.Element {
  const [{ seed }, set] = useSettings();
  const accept = (text: string) => {
    const fits = v.is(seedSchema, text);
    if (fits) set({ seed: text });
    return fits;
  };
  return <NumberDial label="Seed" value={seed} min={0} accept={accept} />;
}

/** The number of denoising steps. */
export function StepsDial({ max = maxSteps }: { max?: number }): JSX.Element {
  const [{ steps }, set] = useSettings();
  return (
    <NumberDial
      label="Steps"
      value={String(steps)}
      min={1}
      max={max}
      accept={accepting(1, max, true, (steps) => set({ steps }))}
    />
  );
}

/** The scale of classifier-free guidance. */
export function GuidanceDial(): JSX.Element {
  const [{ guidance }, set] = useSettings();
  return (
    <NumberDial
      label="Guidance"
      value={String(guidance)}
      step={0.5}
      min={1}
      max={30}
      accept={accepting(1, 30, false, (guidance) => set({ guidance }))}
    />
  );
}

/** The sampler, the model's own first. */
export function SamplerDial(): JSX.Element {
  const { store } = useStudio();
  const { model } = store.state.value;
  const [{ sampler }, set] = useSettings();
  const samplers = model.status === "open" ? model.facts.samplers : [sampler];
  return (
    <label class="num wide">
      <span>Sampler</span>
      <select aria-label="Sampler" value={sampler} onChange={(event) => set({ sampler: event.currentTarget.value })}>
        {samplers.map((name) => <option key={name} value={name} selected={name === sampler}>{name}</option>)}
      </select>
    </label>
  );
}

/** Square sizes around the model's own. */
export function SizeDial(): JSX.Element {
  const { store } = useStudio();
  const { model } = store.state.value;
  const [{ width, height }, set] = useSettings();
  const facts = model.status === "open" ? model.facts : undefined;
  const own = facts === undefined ? [] : [facts.size / 2, facts.size, facts.size * 1.5, facts.size * 2]
    .filter((side) => side % facts.sizeStep === 0 && side <= maxSide);
  const square = width === height && own.includes(width);
  const text = (width: number, height: number) =>
    width === 0 ? "…" : width === height ? `${width}²` : `${width} × ${height}`;
  return (
    <label class="num wide">
      <span>Size</span>
      <select
        aria-label="Size"
        value={`${width} ${height}`}
        onChange={(event) => {
          const [width, height] = event.currentTarget.value.split(" ").map(Number);
          set({ width, height });
        }}
      >
        {!square && <option value={`${width} ${height}`}>{text(width, height)}</option>}
        {own.map((side) => (
          <option key={side} value={`${side} ${side}`} selected={square && side === width}>{text(side, side)}</option>
        ))}
      </select>
    </label>
  );
}

/** Width or height, in the model's steps. */
export function SideDial({ side }: { side: "width" | "height" }): JSX.Element {
  const { store } = useStudio();
  const { model } = store.state.value;
  const [settings, set] = useSettings();
  const step = model.status === "open" ? model.facts.sizeStep : 8;
  const accept = accepting(step, maxSide, true, (value) => value % step === 0 && set({ [side]: value }));
  return (
    <NumberDial
      label={side === "width" ? "Width" : "Height"}
      value={String(settings[side])}
      step={step}
      min={step}
      max={maxSide}
      accept={(text) => accept(text) && Number(text) % step === 0}
    />
  );
}

/** Layers of the text encoder to leave out. */
export function ClipSkipDial(): JSX.Element {
  const { store } = useStudio();
  const { model } = store.state.value;
  const [{ clipSkip }, set] = useSettings();
  const max = model.status === "open" ? model.facts.textLayers - 1 : 0;
  return (
    <NumberDial
      label="Clip skip"
      value={String(clipSkip)}
      min={0}
      max={max}
      accept={accepting(0, max, true, (clipSkip) => set({ clipSkip }))}
    />
  );
}

/** A field for a prompt among the settings. */
function PromptField({ label, value, placeholder, set }: {
  label: string;
  value: string;
  placeholder: string;
  set: (text: string) => void;
}): JSX.Element {
  return (
    <label class="num full">
      <span>{label}</span>
      <input
        type="text"
        value={value}
        placeholder={placeholder}
        maxLength={maxPrompt}
        autocomplete="off"
        aria-label={label}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );
}

/** What to keep away from. */
export function NegativePromptField(): JSX.Element {
  const [{ negativePrompt }, set] = useSettings();
  return (
    <PromptField
      label="Negative prompt"
      value={negativePrompt}
      placeholder="what to keep away from"
      set={(negativePrompt) => set({ negativePrompt })}
    />
  );
}

/** What the second text encoder reads, where the model has one. */
export function SecondPromptFields(): JSX.Element | null {
  const { store } = useStudio();
  const { model } = store.state.value;
  const [{ prompt2 = "", negativePrompt2 = "" }, set] = useSettings();
  if (model.status !== "open" || !model.facts.isXL) return null;
  return (
    <>
      <PromptField
        label="Second prompt"
        value={prompt2}
        placeholder="for the second text encoder; empty: each prompt"
        set={(text) => set({ prompt2: text || undefined })}
      />
      <PromptField
        label="Second negative prompt"
        value={negativePrompt2}
        placeholder="for the second text encoder; empty: the negative prompt"
        set={(text) => set({ negativePrompt2: text || undefined })}
      />
    </>
  );
}
