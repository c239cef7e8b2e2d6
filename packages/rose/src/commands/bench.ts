import { cpus, totalmem } from 'node:os';
import { Command } from 'commander';
import type { ModelHub, ServedModel } from '@rose/engine';
import { bundledModels, locate, open } from '../models.ts';
import { addDeviceOptions, integer, type DeviceOptions } from '../options.ts';
import { bytes, print, say } from '../output.ts';
import { exitCodeOfSignal, onStop } from '../signals.ts';
import { version } from '../version.ts';
import { benchServeCommand } from './bench-serve.ts';

interface Options extends DeviceOptions {
  json?: boolean;
  repeats: number;
}

/** One figure: the median of the repeats, with the slowest and the fastest. */
interface Figure {
  readonly model: string;
  readonly what: string;
  readonly unit: string;
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

const PROMPT_TOKENS = 512;
const ANSWER_TOKENS = 128;
/** Sequences that decode together, besides one alone. */
const BATCH = 8;
const PROMPTS_MS = 10_000;
const TEXTS = 16;
const TEXT_TOKENS = 128;

/** `rose bench [MODEL]`: what this machine does with a model, measured through the engine without HTTP. `rose bench serve` is below it. */
export function benchCommand(): Command {
  const command = new Command('bench')
    .description('measure how fast this machine runs a model')
    .argument('[model]', 'a model (default: all bundled models)')
    .option('--repeats <n>', 'measurements of each figure; the median counts', integer(1, 1000), 5)
    .option('--json', 'print the figures as JSON');
  return addDeviceOptions(command)
    .addHelpText(
      'after',
      `\nPrompts are random tokens, never the same twice, so that no cache helps. prefill: ${PROMPT_TOKENS} tokens (or half the\n` +
        `context) to the first token of the answer. decode: ${ANSWER_TOKENS} tokens after the first. texts: ${TEXTS} at once, of ` +
        `${TEXT_TOKENS} tokens each.`,
    )
    .action(bench)
    .addCommand(benchServeCommand());
}

async function bench(name: string | undefined, options: Options): Promise<void> {
  const offStop = onStop((signal) => process.exit(exitCodeOfSignal(signal)));
  const names = name === undefined ? bundledModels() : [name];
  const machine = machineOf();
  const figures: Figure[] = [];
  let device = '';
  // One model at a time: others in memory should not matter, but need not be there.
  for (const each of names) {
    // All answers are to be under way at once: prompts must not give way to the first of them.
    const hub: ModelHub = await open([await locate(each)], { ...options, stepMs: PROMPTS_MS }, () => {});
    try {
      device = hub.stats.device;
      say(`measuring ${each} on ${device}`);
      figures.push(...(await measure(hub.models[0], options.repeats)));
    } finally {
      await hub.close();
    }
  }
  offStop();
  if (options.json) await print(`${JSON.stringify({ rose: version, machine, device, figures }, undefined, 2)}\n`);
  else await print(table(`${machine.cpu}, ${machine.cores} cores, ${bytes(machine.memory)}, ${device}`, figures));
}

function machineOf(): { cpu: string; cores: number; memory: number; platform: string; node: string } {
  const list = cpus();
  return {
    cpu: list[0]?.model.trim() ?? 'unknown CPU',
    cores: list.length,
    memory: totalmem(),
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
  };
}

async function measure(model: ServedModel, repeats: number): Promise<Figure[]> {
  const random = tokenSource(model.spec.vocabSize);
  if (model.task !== 'generate') {
    const length = Math.min(TEXT_TOKENS, model.spec.contextLength);
    const rates = await repeat(repeats, async () => [await poolRate(model, random, length)]);
    return [figure(model, `${TEXTS} texts of ${length} tokens`, 'texts/s', rates[0])];
  }
  const prompt = Math.min(PROMPT_TOKENS, Math.floor(model.spec.contextLength / 2));
  const answer = Math.min(ANSWER_TOKENS, model.spec.contextLength - prompt - 1);
  const alone = await repeat(repeats, () => generateRates(model, random, prompt, answer, 1));
  const together = await repeat(repeats, () => generateRates(model, random, prompt, answer, BATCH));
  return [
    figure(model, `prefill ${prompt} tokens`, 'tokens/s', alone[0]),
    figure(model, `decode, 1 sequence`, 'tokens/s', alone[1]),
    figure(model, `decode, ${BATCH} sequences`, 'tokens/s', together[1]),
  ];
}

/** Rates of several runs, by rate; the first run warms up and does not count. */
async function repeat(repeats: number, run: () => Promise<readonly number[]>): Promise<number[][]> {
  await run();
  const rates: number[][] = [];
  for (let i = 0; i < repeats; i += 1) {
    for (const [at, rate] of (await run()).entries()) (rates[at] ??= []).push(rate);
  }
  return rates;
}

function figure(model: ServedModel, what: string, unit: string, values: number[]): Figure {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  return { model: model.name, what, unit, median, lowest: sorted[0], highest: sorted.at(-1)! };
}

type TokenSource = (count: number) => number[];

/** Pseudo-random token ids, the same in each run of the benchmark (constants: Numerical Recipes' quick generator). */
function tokenSource(vocabSize: number): TokenSource {
  let state = 1;
  return (count) =>
    Array.from({ length: count }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * vocabSize);
    });
}

/** Prefill and decode rates, in tokens a second, of `sequences` requests sent at once. */
async function generateRates(
  model: ServedModel,
  random: TokenSource,
  prompt: number,
  answer: number,
  sequences: number,
): Promise<readonly [prefill: number, decode: number]> {
  const start = performance.now();
  const one = async (): Promise<number[]> => {
    const times: number[] = [];
    const request = {
      prompt: { kind: 'tokens', tokens: random(prompt) },
      sampling: { temperature: 0 },
      maxTokens: answer + 1,
      ignoreEos: true,
    } as const;
    for await (const event of model.generate(request)) {
      if (event.kind !== 'delta') continue;
      const now = performance.now();
      for (const _ of event.tokens) times.push(now);
    }
    return times;
  };
  const all = await Promise.all(Array.from({ length: sequences }, one));
  // Between these all sequences decode, and nothing else runs.
  const from = Math.max(...all.map((times) => times[0]));
  const to = Math.min(...all.map((times) => times.at(-1)!));
  const decoded = all.flat().filter((time) => time > from && time <= to).length;
  return [(sequences * prompt * 1000) / (from - start), (decoded * 1000) / (to - from)];
}

async function poolRate(model: ServedModel, random: TokenSource, length: number): Promise<number> {
  const inputs = Array.from({ length: TEXTS }, () => random(length));
  const start = performance.now();
  if (model.task === 'embed') await model.embed({ inputs });
  else await model.score({ inputs: inputs.map((tokens) => ({ tokens })) });
  return (TEXTS * 1000) / (performance.now() - start);
}

function table(title: string, figures: readonly Figure[]): string {
  const width = Math.max(0, ...figures.map(({ model, what }) => model.length + what.length + 2));
  const rows = figures.map(({ model, what, unit, median, lowest, highest }) => {
    const range = `(${lowest.toFixed(0)} to ${highest.toFixed(0)})`;
    return `${`${model}: ${what}`.padEnd(width)}  ${median.toFixed(0).padStart(8)} ${unit}  ${range}`;
  });
  return [title, ...rows, ''].join('\n');
}
