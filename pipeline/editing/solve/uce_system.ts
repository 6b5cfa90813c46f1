/** Solves Unified Concept Editing (arXiv 2308.14761) as weighted rows of TIME's system. @module */

import type { Gpu } from "../../../engine/gpu.ts";
import { EditOperator } from "../operator.ts";
import type { HostRows } from "../prompts/recipe.ts";
import { largestEigenvalue } from "./certificate.ts";
import { EditSystem, type EditSystemOptions } from "./edit_system.ts";
import { withFewPreserved } from "./preserved_rows.ts";

/**
 * The equations of UCE, eq. 7, with a row (c, g) of weight e for each edited concept and a row (r,
 * r) of weight p for each preserved one:
 *
 *     E = (λI + e Σ g cᵀ + p Σ r rᵀ)(λI + e Σ c cᵀ + p Σ r rᵀ)⁻¹
 *
 * The report's condition number is that of the matrix to invert.
 */
export class UceSystem implements Disposable {
  readonly #system: EditSystem;
  readonly #rows: number;

  /**
   * Sets up the system.
   *
   * @throws {EditError} when a value is not finite or no row has a weight above 0
   */
  constructor(
    gpu: Gpu,
    rows: { readonly edited: HostRows; readonly preserved: HostRows },
    options: EditSystemOptions = {},
  ) {
    const { edited, preserved } = rows;
    this.#rows = edited.weights.length + preserved.weights.length;
    // The token system keeps E − I thin, also where preserved rows make it larger than the other.
    const route = options.route ?? (edited.weights.length <= edited.width ? "tokens" : "channels");
    this.#system = EditSystem.fromHost(gpu, withFewPreserved(edited, preserved), { ...options, route });
  }

  /**
   * Solves for a λ and verifies the solution.
   *
   * @throws {LambdaError} {IllConditionedError} as {@linkcode EditSystem.solve} does
   */
  async solve({ lamb, signal }: { lamb: number; signal?: AbortSignal }): Promise<EditOperator> {
    const { factors, report } = await this.#system.solve({ lamb, signal });
    const { rows } = this.#system;
    // With fewer rows than channels, the smallest eigenvalue is λ.
    const conditionEstimate = rows.count < rows.width
      ? largestEigenvalue(rows, lamb) / lamb
      : report!.conditionEstimate;
    return new EditOperator(factors, { ...report!, rows: this.#rows, conditionEstimate });
  }

  /** Frees the tensors on the device. */
  [Symbol.dispose](): void {
    this.#system[Symbol.dispose]();
  }
}
