import { architectureOf, chooseAssembler, type Assembler, type AssembleOptions, type Compiled } from './assembler.ts';
import type { Context } from './context.ts';
import { CubinCache, cubinKey } from './cubin-cache.ts';
import { cacheDirectory } from './file-cache.ts';
import { Module, type LoadedModule } from './module.ts';
import type { Program } from './program.ts';

export interface CompileOptions extends AssembleOptions {
  /** Default: see chooseAssembler. */
  readonly assembler?: Assembler;
  /** Default: the cache in `cacheDirectory('cubin')`. False: none. */
  readonly cache?: CubinCache | false;
}

/** What is compiled of a program. */
export type Source = Pick<Program, 'name' | 'ptx' | 'maxRegisters'>;

/**
 * What a program became for a device; it may cross to another thread of the process. A program that the driver compiles only
 * as it loads it has no cubin: its maker may have loaded it, and gives the module away with the image.
 */
export interface Image extends Compiled {
  /** It came from the cache. Without a cubin: the driver compiled it here before, and keeps it itself. */
  readonly cached: boolean;
  readonly loaded?: LoadedModule;
}

/** The image of a program, if it was compiled before; nothing is compiled. */
export function keptImage(context: Context, source: Source, options: CompileOptions = {}): Image | undefined {
  const { cache, key } = placeOf(context, source, options);
  const kept = cache && cache.get(key);
  return kept ? { ...kept, cached: true } : undefined;
}

/**
 * A program's image for the context's device: from the cache, else compiled and kept. Without a cubin it is still to be
 * compiled, by `loadWhole`. Throws CompileError, whose message names the kernel's source lines.
 */
export function compile(context: Context, source: Source, options: CompileOptions = {}): Image {
  const { assembler, architecture, settings, cache, key } = placeOf(context, source, options);
  const kept = cache && cache.get(key);
  if (kept) return { ...kept, cached: true };
  const compiled = assembler.assemble(source.name, source.ptx, architecture, settings);
  if (cache && compiled.cubin.length > 0) cache.put(key, compiled);
  return { ...compiled, cached: false };
}

/** Everything that takes time on the way to a kernel, for whoever has threads to spare: `Kernel` takes the result. */
export function makeImage(context: Context, source: Source, options: CompileOptions = {}): Image {
  const image = compile(context, source, options);
  if (image.cubin.length > 0) return image;
  const module = loadWhole(context, source, options);
  return { ...image, loaded: module.giveAway() };
}

/** A program without a cubin, compiled by the driver as it loads it. That it keeps it now is noted in the cache. */
export function loadWhole(context: Context, source: Source, options: CompileOptions): Module {
  const { settings, cache, key } = placeOf(context, source, options);
  const module = new Module(context, { name: source.name, ptx: source.ptx, options: settings });
  if (cache) cache.put(key, { cubin: new Uint8Array(), kernels: [], log: '' });
  return module;
}

let defaultCache: CubinCache | undefined;

function usualCache(): CubinCache {
  // The environment may name another directory since.
  if (defaultCache?.directory !== cacheDirectory('cubin')) defaultCache = new CubinCache();
  return defaultCache;
}

function placeOf(context: Context, source: Source, options: CompileOptions) {
  const assembler = options.assembler ?? chooseAssembler(context);
  const cache = options.cache ?? usualCache();
  const settings = settingsOf(source, options);
  const architecture = architectureOf(source.ptx, context.device.capability);
  // The driver compiles for the device it has, so the device is part of what the image depends on.
  const target = `${architecture} on ${context.device.capability}`;
  const key = cubinKey(source.ptx, target, assembler.identity, settings);
  return { assembler, architecture, settings, cache, key };
}

function settingsOf(source: Source, options: CompileOptions): AssembleOptions {
  const maxRegisters = options.maxRegisters ?? source.maxRegisters;
  return {
    ...(maxRegisters === undefined ? {} : { maxRegisters }),
    ...(options.optimization === undefined ? {} : { optimization: options.optimization }),
    ...(options.lineInfo === undefined ? {} : { lineInfo: options.lineInfo }),
  };
}
