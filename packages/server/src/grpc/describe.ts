import { create, fromJson, type JsonValue } from '@bufbuild/protobuf';
import type { ServerContext } from '../context.ts';
import { TritonError } from '../triton/errors.ts';
import { modelConfig, modelMetadata, serverMetadata } from '../triton/metadata.ts';
import type { TritonModel } from '../triton/model.ts';
import type { TritonModels } from '../triton/models.ts';
import {
  ModelConfigResponseSchema,
  ModelMetadataResponseSchema,
  RepositoryIndexResponse_ModelIndexSchema,
  RepositoryIndexResponseSchema,
  ServerMetadataResponseSchema,
  type ModelConfigResponse,
  type ModelMetadataResponse,
  type RepositoryIndexRequest,
  type RepositoryIndexResponse,
  type ServerMetadataResponse,
} from './proto/inference_pb.js';

/** What the HTTP protocol answers, as messages: the JSON of both is protobuf's own. */
export function grpcServerMetadata(version: string): ServerMetadataResponse {
  return fromJson(ServerMetadataResponseSchema, serverMetadata(version) as JsonValue);
}

export function grpcModelMetadata(model: TritonModel): ModelMetadataResponse {
  return fromJson(ModelMetadataResponseSchema, modelMetadata(model) as JsonValue);
}

export function grpcModelConfig(model: TritonModel): ModelConfigResponse {
  return fromJson(ModelConfigResponseSchema, { config: modelConfig(model) as JsonValue });
}

/** Every model that the server was started with; each is one version. */
export async function repositoryIndex(
  { hub }: ServerContext,
  models: TritonModels,
  request: RepositoryIndexRequest,
): Promise<RepositoryIndexResponse> {
  if (request.repositoryName !== '') throw new TritonError(501, "'repository_name' specification is not supported");
  const index = await Promise.all(
    [...models].map(async ({ name }) => {
      const ready = await hub.get(name).ready();
      const state = ready ? 'READY' : 'UNAVAILABLE';
      const reason = ready ? '' : 'its engine cannot answer now';
      return create(RepositoryIndexResponse_ModelIndexSchema, { name, version: '1', state, reason });
    }),
  );
  return create(RepositoryIndexResponseSchema, {
    models: index.filter(({ state }) => !request.ready || state === 'READY'),
  });
}
