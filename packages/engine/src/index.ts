/** The public face of the engine package: what protocols and library users need. */
export * from './errors.ts';
export * from './model/spec.ts';
export * from './model/parameters.ts';
export type * from './checkpoint/checkpoint.ts';
export type * from './text/text.ts';
export type * from './answer/parts.ts';
export * from './answer/dialect.ts';
export { AnswerParser, append, controlsOf, type AnswerOptions } from './answer/parser.ts';
export type * from './engine/request.ts';
export type { Structure, StructureForm } from './grammar/structure.ts';
export type { CallableTool, CallsForm } from './grammar/calls.ts';
export type { Schema } from './grammar/schema-node.ts';
export type * from './serve/api.ts';
export type * from './serve/options.ts';
export { openModels } from './serve/hub.ts';
export { openCheckpoint, readModel } from './checkpoint/open.ts';
export { resolveModel, type DownloadProgress, type ResolveOptions } from './checkpoint/hub.ts';
export { contextTokenBytes, describe, parameterCount, weightBytes, type WeightFormat } from './model/memory.ts';
