/**
 * Reports of edits, in words and as JSON.
 *
 * @module
 */
import { countText } from "../engine/inspect.ts";
import type { PredictedLeakage } from "../pipeline/editing/leakage.ts";
import type { ConceptMove } from "../pipeline/editing/moves.ts";
import type { EditReport } from "../pipeline/editing/edit_report.ts";
import type { ModelEdit } from "../pipeline/editing/model_edit.ts";

/** One-line summary of an edit's report. */
export function editLine(report: EditReport): string {
  const { ms, lamb, mergedRows, rank, precision, layers, relativeSize, method } = report;
  return `Edited in ${ms.toFixed(0)} ms${method === "time" ? "" : ` (${method})`}: ${
    countText(mergedRows, "row")
  }, rank ${rank}, ${precision}, lambda ${lamb}, ` +
    `${countText(layers.length, "layer")}, relative size ${
      relativeSize >= 0.001 || relativeSize === 0 ? relativeSize.toFixed(3) : relativeSize.toExponential(1)
    }`;
}

/** The report of an edit as --json prints it. */
export function editJson(report: EditReport): Record<string, unknown> {
  const { alignments, ...figures } = report;
  return {
    ...figures,
    alignments: alignments.map(({ source, destination, pairs }) => ({ source, destination, pairs })),
  };
}

/** Size, accuracy, and the alignment of every pair. */
export function reportText(edit: ModelEdit): string {
  const { rows, mergedRows, rank, route, conditionEstimate, residual, limitedBy, alignments } = edit.report;
  // Prefixed sentences align like the pairs themselves, behind the prefix.
  const own = edit.recipe.pairs.flatMap((pair) => {
    const destinations = typeof pair.destination === "string"
      ? [pair.destination]
      : pair.destination.map(({ prompt }) => prompt);
    return destinations.map((destination) =>
      alignments.find((each) => each.source === pair.source && each.destination === destination)
    );
  });
  return [
    `  ${countText(rows, "row")}, ${mergedRows} after merging equal ones; rank ${rank}, solved by the ${route} system`,
    `  condition estimate ${conditionEstimate.toExponential(1)}, residual ${
      residual.toExponential(1)
    }; accuracy limited by ${limitedBy}`,
    ...pooledLines(edit.report),
    ...nullSpaceLines(edit.report),
    ...moveLines(edit.report),
    ...own.filter((alignment) => alignment !== undefined).flatMap(({ source, destination, pairs }) => [
      `  ${JSON.stringify(source)} -> ${JSON.stringify(destination)}`,
      `    alignment: ${
        pairs.map(({ sourceToken, destination, destinationToken }) =>
          `${sourceToken} -> ${destination} ${destinationToken}`
        ).join(", ")
      }`,
    ]),
  ].join("\n");
}

/** The operator of the pooled embedding. */
function pooledLines({ pooled }: EditReport): string[] {
  if (pooled === undefined) return [];
  const { mergedRows, rank, residual, relativeSize } = pooled;
  return [
    `  pooled embedding: ${countText(mergedRows, "row")}, rank ${rank}, residual ${residual.toExponential(1)}, ` +
    `relative size ${relativeSize.toPrecision(3)}`,
  ];
}

/** The null space, and the prompts that could not be retained. */
function nullSpaceLines({ nullSpace }: EditReport): string[] {
  if (!nullSpace) return [];
  const { dimension, above, below, leftOut } = nullSpace;
  const list = (values: readonly number[]) => values.map((value) => value.toPrecision(3)).join(", ") || "none";
  return [
    `  null space of dimension ${dimension}; eigenvalues below the threshold ${list(below)}, above ${list(above)}`,
    ...(leftOut.length > 0
      ? [
        `  not retained, as they contain an erased concept's words: ${
          leftOut.map((prompt) => JSON.stringify(prompt)).join(", ")
        }`,
      ]
      : []),
  ];
}

/** How far the concepts move: the sources, and the preserved prompt that moves most. */
function moveLines({ moves }: EditReport): string[] {
  if (!moves) return [];
  const text = ({ prompt, moved }: ConceptMove) => `${JSON.stringify(prompt)} ${moved.toPrecision(3)}`;
  const { erased, mostMovedRetained } = moves;
  return [
    `  last token moves: ${erased.map(text).join(", ")}` +
    (mostMovedRetained ? `; of the preserved at most ${text(mostMovedRetained)}` : ""),
  ];
}

/** A table of prompts and how much the edit moves them, largest first. */
export function predictionsText(rows: readonly PredictedLeakage[]): string {
  const width = Math.max(...rows.map(({ prompt }) => prompt.length), 6);
  return [
    `  ${"prompt".padEnd(width)}  leakage  of the sources'  nearest source (cosine)`,
    ...rows.toSorted((a, b) => b.leakage - a.leakage).map(({ prompt, leakage, share, nearest, warning }) =>
      `  ${prompt.padEnd(width)}  ${leakage.toFixed(4).padStart(7)}  ${(100 * share).toFixed(0).padStart(13)} %  ` +
      `${nearest.source} (${nearest.cosine.toFixed(2)})${warning ? "  will change" : ""}`
    ),
  ].join("\n");
}
