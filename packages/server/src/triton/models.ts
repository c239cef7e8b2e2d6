import { RoseError, type ModelHub, type ServedModel } from '@rose/engine';
import { embeddingModel } from './embed.ts';
import { invalid } from './errors.ts';
import { generatingModel } from './generate.ts';
import type { TritonModel } from './model.ts';
import { scoringModel } from './score.ts';

/** A hub's models in Triton's words. Each has the one version 1. */
export class TritonModels {
  readonly #models: ReadonlyMap<string, TritonModel>;

  constructor(hub: ModelHub) {
    this.#models = new Map(hub.models.map((model) => [model.name, tritonModel(model)]));
  }

  /**
   * @param version decimal digits; undefined or empty: the server chooses
   * @throws RoseError `not_found`, TritonError where the version is no number
   */
  find(name: string, version: string | undefined): TritonModel {
    if (version && !/^\d+$/.test(version)) {
      throw invalid(`failed to get model version from specified version string '${version}'`);
    }
    const model = this.#models.get(name);
    if (model !== undefined && (!version || Number(version) === 1)) return model;
    const which = version ? `'${name}' version ${Number(version)}` : `'${name}'`;
    throw new RoseError('not_found', `Request for unknown model: ${which} is not found`);
  }

  [Symbol.iterator](): Iterator<TritonModel> {
    return this.#models.values();
  }
}

function tritonModel(model: ServedModel): TritonModel {
  const make = { generate: generatingModel, embed: embeddingModel, score: scoringModel };
  return make[model.task](model);
}
