import type { ModelConfig } from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';

/** Any version, as an ensemble's step names one. */
const ANY_VERSION = -1;

/** The models that a configuration is made of, each with the versions that it wants; -1 is any. */
export function partsOf({ schedulingChoice }: ModelConfig): ReadonlyMap<string, ReadonlySet<number>> {
  const parts = new Map<string, Set<number>>();
  if (schedulingChoice.case !== 'ensembleScheduling') return parts;
  for (const { modelName, modelVersion } of schedulingChoice.value.step) {
    const versions = parts.get(modelName) ?? new Set();
    parts.set(modelName, versions.add(Number(modelVersion)));
  }
  return parts;
}

/** What is there of a part. */
export interface Part {
  /** Those that answer. */
  readonly versions: readonly number[];
  /** Why there are none; empty: nothing failed. */
  readonly problem: string;
}

/** Refuse an ensemble whose parts are not there, with Triton's texts. */
export function checkParts(config: ModelConfig, look: (name: string) => Part | undefined): void {
  const { name } = config;
  const parts = [...partsOf(config)];
  const missing = parts.filter(([part]) => look(part) === undefined).map(([part]) => part);
  if (missing.length > 0) {
    throw invalid(`ensemble ${name} contains models that are not available or ambiguous: ${missing.join(', ')}`);
  }
  for (const [part, wanted] of parts) {
    const { versions, problem } = look(part) as Part;
    if (versions.length === 0) {
      const why = problem === '' ? '' : ` Model '${part}' loading failed with error: ${problem}`;
      throw invalid(`ensemble '${name}' depends on '${part}' which has no loaded version.${why}`);
    }
    const absent = [...wanted].find((version) => version !== ANY_VERSION && !versions.includes(version));
    if (absent !== undefined) {
      throw invalid(`ensemble '${name}' depends on '${part}' whose required version ${absent} is not loaded.`);
    }
  }
}

/** Names of the ensembles that need one of these models, directly or through another ensemble. */
export function ensemblesOf(names: Iterable<string>, configs: ReadonlyMap<string, ModelConfig>): Set<string> {
  const needed = new Set(names);
  const found = new Set<string>();
  for (const name of needed) {
    for (const [ensemble, config] of configs) {
      if (!partsOf(config).has(name)) continue;
      found.add(ensemble);
      needed.add(ensemble);
    }
  }
  return found;
}

/** Ensembles in an order in which each comes after those it is made of. */
export interface LoadOrder {
  readonly order: readonly string[];
  /** Those that are, through others, made of themselves, each with Triton's text. */
  readonly circular: ReadonlyMap<string, Error>;
}

export function loadOrder(names: ReadonlySet<string>, configs: ReadonlyMap<string, ModelConfig>): LoadOrder {
  const order: string[] = [];
  const circular = new Map<string, Error>();
  const visit = (name: string, path: readonly string[]): void => {
    if (order.includes(name) || circular.has(name)) return;
    const at = path.indexOf(name);
    if (at >= 0) {
      const circle = path.slice(at);
      const text = `circular dependency between ensembles: ${name} -> ... -> ${circle.at(-1)} -> ${name}`;
      for (const one of circle) circular.set(one, invalid(text));
      return;
    }
    const config = configs.get(name);
    for (const part of config === undefined ? [] : partsOf(config).keys()) {
      if (configs.has(part)) visit(part, [...path, name]);
    }
    if (names.has(name) && !circular.has(name)) order.push(name);
  };
  for (const name of names) visit(name, []);
  return { order, circular };
}
