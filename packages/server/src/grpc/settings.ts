import { create } from '@bufbuild/protobuf';
import type { ServerContext } from '../context.ts';
import { printLogSettings, readLogChange, wrongParameterType } from '../logging/settings.ts';
import { readTraceChange } from '../trace/settings.ts';
import { checkTracedModel } from '../triton/settings-routes.ts';
import {
  LogSettingsResponse_SettingValueSchema,
  LogSettingsResponseSchema,
  TraceSettingResponse_SettingValueSchema,
  TraceSettingResponseSchema,
  type LogSettingsRequest,
  type LogSettingsResponse,
  type TraceSettingRequest,
  type TraceSettingResponse,
} from './proto/inference_pb.js';

/** The server's trace settings, or a model's, after the changes that the request brings. */
export async function traceSetting(
  { models, traces }: ServerContext,
  { modelName, settings }: TraceSettingRequest,
): Promise<TraceSettingResponse> {
  const model = modelName === '' ? undefined : modelName;
  await checkTracedModel(models, model);
  const change = readTraceChange(Object.entries(settings).map(([name, { value }]) => [name, value]));
  if (Object.keys(settings).length > 0) traces.update(model, change);
  return create(TraceSettingResponseSchema, {
    settings: Object.fromEntries(
      Object.entries(traces.print(model)).map(([name, value]) => [
        name,
        create(TraceSettingResponse_SettingValueSchema, { value: [value].flat() }),
      ]),
    ),
  });
}

/** The log's settings after the changes that the request brings. */
export async function logSettings(
  { log }: ServerContext,
  { settings }: LogSettingsRequest,
): Promise<LogSettingsResponse> {
  const values = Object.entries(settings).map(([name, value]) => [name, value.parameterChoice.value] as const);
  log.settings = { ...log.settings, ...readLogChange(values, wrongParameterType) };
  return create(LogSettingsResponseSchema, {
    settings: Object.fromEntries(
      Object.entries(printLogSettings(log.settings)).map(([name, value]) => [
        name,
        create(LogSettingsResponse_SettingValueSchema, { parameterChoice: choiceOf(value) }),
      ]),
    ),
  });
}

function choiceOf(value: string | boolean | number): LogSettingsRequest['settings'][string]['parameterChoice'] {
  if (typeof value === 'boolean') return { case: 'boolParam', value };
  return typeof value === 'number' ? { case: 'uint32Param', value } : { case: 'stringParam', value };
}
