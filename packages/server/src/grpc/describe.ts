import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import type { ServerContext } from '../context.ts';
import { readOverride, readUnload, type LoadOverride } from '../repository/override.ts';
import { modelStatistics } from '../statistics/describe.ts';
import { refuseRepositoryName } from '../triton/errors.ts';
import { modelMetadata, serverMetadata } from '../triton/metadata.ts';
import type { TritonModel } from '../triton/model.ts';
import type { TritonModels } from '../triton/models.ts';
import {
  ModelConfigResponseSchema,
  ModelMetadataResponseSchema,
  ModelStatisticsResponseSchema,
  RepositoryIndexResponseSchema,
  ServerMetadataResponseSchema,
  type ModelConfigResponse,
  type ModelMetadataResponse,
  type ModelStatisticsResponse,
  type RepositoryIndexRequest,
  type RepositoryIndexResponse,
  type RepositoryModelLoadRequest,
  type RepositoryModelUnloadRequest,
  type ServerMetadataResponse,
} from './proto/inference_pb.js';

/** What the HTTP protocol answers, as messages: the JSON of both is protobuf's own. */
export function grpcServerMetadata(context: ServerContext): ServerMetadataResponse {
  return fromJson(ServerMetadataResponseSchema, serverMetadata(context) as JsonValue);
}

export function grpcModelMetadata(models: TritonModels, name: string, version: string): ModelMetadataResponse {
  const model = models.find(name, version);
  return fromJson(ModelMetadataResponseSchema, modelMetadata(model, models.versions(name, version)) as JsonValue);
}

export function grpcModelConfig(model: TritonModel): ModelConfigResponse {
  return fromJson(ModelConfigResponseSchema, { config: model.config() as JsonValue });
}

export async function grpcRepositoryIndex(
  models: TritonModels,
  { repositoryName, ready }: RepositoryIndexRequest,
): Promise<RepositoryIndexResponse> {
  if (repositoryName !== '') throw refuseRepositoryName();
  return fromJson(RepositoryIndexResponseSchema, { models: (await models.index(ready)) as unknown as JsonValue });
}

export function grpcModelStatistics(models: readonly TritonModel[]): ModelStatisticsResponse {
  return fromJson(ModelStatisticsResponseSchema, { model_stats: models.map(modelStatistics) as JsonValue });
}

/** What a load request brings: texts, and files as bytes. */
export function loadOverride({ parameters }: RepositoryModelLoadRequest): LoadOverride {
  return readOverride(Object.entries(parameters).map(([name, value]) => [name, value.parameterChoice.value]));
}

/** Whether an unload request also takes what was loaded for the model's sake. */
export function unloadsDependents({ parameters }: RepositoryModelUnloadRequest): boolean {
  return readUnload(Object.entries(parameters).map(([name, value]) => [name, value.parameterChoice.value]));
}
