import type { ModelVersionPolicy } from '../grpc/proto/model_config_pb.js';

/** The version that answers when a request names none: the highest of those that can. The one place that decides it. */
export function answeringVersion(available: readonly number[]): number | undefined {
  return available.length === 0 ? undefined : Math.max(...available);
}

/** The versions that a policy wants of those that there are. */
export function wantedVersions(policy: ModelVersionPolicy | undefined, there: readonly number[]): number[] {
  const sorted = [...there].sort((a, b) => a - b);
  const choice = policy?.policyChoice;
  if (choice?.case === 'all') return sorted;
  if (choice?.case === 'specific') return sorted.filter((version) => choice.value.versions.includes(BigInt(version)));
  const count = choice?.case === 'latest' ? choice.value.numVersions : 1;
  return sorted.slice(-count);
}

/** The version that a directory's name stands for; undefined: it holds none. */
export function versionOfDirectory(name: string): number | undefined {
  return /^(0|[1-9]\d{0,15})$/.test(name) && Number.isSafeInteger(Number(name)) ? Number(name) : undefined;
}
