import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompileError, readResources, type KernelResources } from './compile-log.ts';
import type { Context } from './context.ts';
import { JitOptions } from './jit.ts';
import { Out } from './out.ts';
import { resultOf } from './results.ts';

export interface AssembleOptions {
  /** Most registers a thread may take. */
  readonly maxRegisters?: number;
  /** 0 to 4; default 4, which is what both assemblers take when nothing is said (ptxas calls it 3). */
  readonly optimization?: 0 | 1 | 2 | 3 | 4;
  /** Keep the map from instructions to source lines for profilers. Default true: it costs nothing at run time. */
  readonly lineInfo?: boolean;
}

/** A compiled image with what the assembler said about it. */
export interface Compiled {
  /** Empty where the program is only compiled as it is loaded: see DriverAssembler. */
  readonly cubin: Uint8Array;
  readonly kernels: readonly KernelResources[];
  readonly log: string;
}

/** Turns PTX into a cubin for an architecture such as `sm_90a`. Throws CompileError. */
export interface Assembler {
  /** Name and version: part of the key under which results are kept. */
  readonly identity: string;
  assemble(name: string, ptx: string, architecture: string, options?: AssembleOptions): Compiled;
}

const INPUT_PTX = 1;

/**
 * The compiler inside NVIDIA's driver. It compiles for the context's device, whatever `architecture` says.
 *
 * The driver's linker, which alone gives an image to keep, compiles units that others may call: it ignores `setmaxnreg`, and
 * for lack of registers wgmma then waits after every product, at two thirds of the speed or less. Programs with
 * `setmaxnreg` are compiled whole as they are loaded; the driver keeps their images in a cache of its own.
 */
export class DriverAssembler implements Assembler {
  readonly identity: string;
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
    this.identity = `driver ${context.driver.version}`;
  }

  assemble(name: string, ptx: string, _architecture: string, options: AssembleOptions = {}): Compiled {
    const context = this.#context;
    const { calls, ffi } = context.driver;
    if (/\bsetmaxnreg\b/.test(ptx)) return { cubin: new Uint8Array(), kernels: [], log: '' };
    const jit = new JitOptions(ffi, options);
    const link = new Out();
    context.run('cuLinkCreate_v2', jit.count, jit.keys, jit.values, link.data);
    try {
      const source = Buffer.from(`${ptx}\0`);
      const check = (call: 'cuLinkAddData_v2' | 'cuLinkComplete', code: number): void => {
        if (code === 0) return;
        const log = jit.errors;
        // Not every failure is the PTX's fault; one without a word in the log is the driver's.
        if (log.trim() !== '' && !resultOf(code).sticky) throw new CompileError(`kernel ${name}`, ptx, log);
        context.fail(call, code, ` for kernel ${name}`);
      };
      context.enter('cuLinkAddData_v2');
      check(
        'cuLinkAddData_v2',
        calls.cuLinkAddData_v2(link.word, INPUT_PTX, source, source.length, name, 0, null, null),
      );
      const [image, bytes] = [new Out(), new Out()];
      check('cuLinkComplete', calls.cuLinkComplete(link.word, image.data, bytes.data));
      // The image belongs to the linker and goes with it.
      const cubin = new Uint8Array(ffi.view(image.word, bytes.word)).slice();
      const log = jit.log;
      return { cubin, kernels: readResources(log), log };
    } finally {
      if (!context.lost) context.run('cuLinkDestroy', link.word);
    }
  }
}

/** NVIDIA's ptxas as a program: needs no GPU. */
export class PtxasAssembler implements Assembler {
  readonly identity: string;
  readonly #path: string;

  /** `path`: the program. Throws an Error where it does not run. */
  constructor(path: string) {
    this.#path = path;
    const { status, stdout, error } = spawnSync(path, ['--version'], { encoding: 'utf8' });
    if (error || status !== 0) {
      throw new Error(
        `ptxas cannot be run (${path}): ${error?.message ?? `it ended with ${status}`}; correct ROSE_PTXAS`,
      );
    }
    this.identity = `ptxas ${/\bV([\d.]+)/.exec(stdout)?.[1] ?? stdout.trim()}`;
  }

  assemble(name: string, ptx: string, architecture: string, options: AssembleOptions = {}): Compiled {
    const folder = mkdtempSync(join(tmpdir(), 'rose-ptxas-'));
    try {
      const [input, output] = [join(folder, 'kernel.ptx'), join(folder, 'kernel.cubin')];
      writeFileSync(input, ptx);
      const { status, stdout, stderr, error } = spawnSync(
        this.#path,
        [
          `-arch=${architecture}`,
          '-v',
          `-O${Math.min(3, options.optimization ?? 3)}`,
          ...(options.lineInfo === false ? [] : ['-lineinfo']),
          ...(options.maxRegisters === undefined ? [] : [`-maxrregcount=${options.maxRegisters}`]),
          input,
          '-o',
          output,
        ],
        { encoding: 'utf8', maxBuffer: 2 ** 26 },
      );
      if (error) throw error;
      const log = `${stdout}${stderr}`.replaceAll(input, 'kernel.ptx');
      if (status !== 0) throw new CompileError(`kernel ${name}`, ptx, log);
      return { cubin: new Uint8Array(readFileSync(output)), kernels: readResources(log), log };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

const known = new Map<string, PtxasAssembler>();

/** The assembler that ROSE_PTXAS names, else the driver's. */
export function chooseAssembler(context: Context): Assembler {
  const path = process.env.ROSE_PTXAS;
  if (!path) return new DriverAssembler(context);
  let assembler = known.get(path);
  // Its version is asked once.
  if (assembler === undefined) known.set(path, (assembler = new PtxasAssembler(path)));
  return assembler;
}

/**
 * The architecture to compile for: the PTX's own target where it is bound to one architecture or family (`sm_90a`,
 * `sm_100f`), else the device's.
 */
export function architectureOf(ptx: string, capability: number): string {
  const target = /^\s*\.target\s+(sm_\d+[af]?)/m.exec(ptx)?.[1];
  return target !== undefined && /[af]$/.test(target) ? target : `sm_${capability}`;
}
