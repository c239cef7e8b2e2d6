/**
 * How fast kernels run without a GPU: simulated elements a second of some of the library, with all checks and without
 * those that cost most, and how many expressions a second `rose layout -` answers.
 *
 *     node --conditions=development --import @rose/cute/register bench/simulator.ts [--seconds 2]
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runPasses, simulate, type SimulatorOptions } from '@rose/cute';
import { elements, KERNELS, makeCase, simulatorArguments, specialise, type KernelCase } from '@rose/kernels';
import { circumstances, writeResult } from './measure/report.ts';

const { values: options } = parseArgs({ options: { seconds: { type: 'string', default: '2' } } });
const seconds = Number(options.seconds);

/** Cases and what they are counted in. */
const CASES: readonly (readonly [kernel: string, unit: 'elements' | 'multiply-adds', wanted: KernelCase])[] = [
  ['rmsnorm', 'elements', { dims: { rows: 64, columns: 4096 } }],
  ['layernorm', 'elements', { dims: { rows: 64, columns: 4096 } }],
  ['softmax', 'elements', { dims: { rows: 64, columns: 4096 } }],
  ['activation', 'elements', { dims: { rows: 64, columns: 4096 } }],
  ['transpose', 'elements', { dims: { rows: 512, columns: 512 } }],
  ['linear', 'multiply-adds', { dims: { rows: 128, columns: 256, depth: 256 } }],
  ['linear_mma', 'multiply-adds', { dims: { rows: 64, columns: 128, depth: 256 } }],
];

const CHECKS: readonly (readonly [name: string, options: SimulatorOptions])[] = [
  ['all checks', {}],
  ['without races and uninitialised reads', { checks: { races: false, uninitialised: false } }],
];

/** The median of runs that take `seconds` together, at least three; the first is not counted. */
function median(run: () => void): number {
  const times: number[] = [];
  const end = performance.now() + 1000 * seconds;
  for (let i = 0; i < 4 || performance.now() < end; i++) {
    const start = performance.now();
    run();
    if (i > 0) times.push(performance.now() - start);
  }
  return times.toSorted((a, b) => a - b)[times.length >> 1];
}

function simulated(): object[] {
  return CASES.flatMap(([name, unit, wanted]) => {
    const module = KERNELS.find((one) => one.name === name);
    if (!module) throw new Error(`there is no kernel ${name}`);
    const s = specialise(module, wanted);
    const kernel = runPasses(module.trace(s));
    const { args } = makeCase(module, s);
    const { dims } = s;
    const outputs = Object.values(module.args(dims, s.options)).flatMap((argument) =>
      argument?.kind === 'tensor' && argument.role === 'out' ? [elements(argument)] : [],
    );
    const count =
      unit === 'elements' ? outputs.reduce((sum, size) => sum + size, 0) : dims.rows * dims.columns * dims.depth;
    const grid = module.grid(s, { multiprocessors: 4 });
    return CHECKS.map(([checks, simulatorOptions]) => {
      const milliseconds = median(() => {
        const { findings } = simulate(kernel, { grid, args: simulatorArguments(args), options: simulatorOptions });
        if (findings.length > 0) throw new Error(findings[0].message);
      });
      const rate = (count / milliseconds) * 1000;
      console.log(
        `${name} ${JSON.stringify(dims)}, ${checks}: ${milliseconds.toFixed(1)} ms, ${rate.toExponential(2)} ${unit}/s`,
      );
      return {
        kernel: name,
        dims,
        checks,
        milliseconds: Number(milliseconds.toFixed(2)),
        unit,
        perSecond: Math.round(rate),
      };
    });
  });
}

const EXPRESSIONS = [
  'composition((8,8):(1,8), (4,2):(2,1))',
  'zipped_divide((8,16):(16,1), <4:1, 8:2>)',
  '(S<3,4,3> o 0 o (8,64):(64,1))(3, 17)',
  'make_layout_tv((4,8):(8,1), (2,2):(2,1))',
  'complement((2,4):(1,6), 24)',
  'logical_product((2,2):(4,1), 6:1)',
];

/** Lines that the command answers a second, its start not counted. */
function answered(): object {
  const command = fileURLToPath(new URL('../packages/rose/src/main.ts', import.meta.url));
  const ask = (lines: number): number => {
    const input = Array.from({ length: lines }, (_, i) => EXPRESSIONS[i % EXPRESSIONS.length]).join('\n');
    const start = performance.now();
    const { status, stdout } = spawnSync(process.execPath, [...process.execArgv, command, 'layout', '-'], {
      input,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    const took = performance.now() - start;
    if (status !== 0 || stdout.trimEnd().split('\n').length !== lines || stdout.includes('error:')) {
      throw new Error(`rose layout - did not answer: ${stdout.slice(0, 200)}`);
    }
    return took;
  };
  ask(1);
  const [few, many] = [1, 60_000].map((lines) => ask(lines));
  const rate = (60_000 / (many - few)) * 1000;
  console.log(`rose layout -: ${Math.round(rate)} expressions/s after ${few.toFixed(0)} ms to start`);
  return { lines: 60_000, startMilliseconds: Math.round(few), expressionsPerSecond: Math.round(rate) };
}

await writeResult('simulator', { ...(await circumstances()), kernels: simulated(), layout: answered() });
