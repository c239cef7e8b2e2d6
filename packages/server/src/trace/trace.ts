import { now } from '../backend/protocol.ts';
import type { BatchTimes } from '../statistics/statistics.ts';
import { printElements, printShape, type Tensor } from '../triton/tensor.ts';
import type { TraceLevel } from './settings.ts';

interface Entry {
  readonly ns: number;
  readonly text: string;
}

let last = 0;

/** What one traced request went through, as objects of Triton's trace file. Times are the system's steady clock. */
export class Trace {
  readonly id: number = ++last;
  readonly #level: readonly TraceLevel[];
  readonly #parent: number;
  readonly #onFinish: (text: string) => void;
  readonly #entries: Entry[] = [];
  readonly #children: Trace[] = [];
  #head = '';
  #finished = false;

  /**
   * @param parent id of the trace that this is a part of; 0: of none
   * @param onFinish called once, with the trace's objects and those of its parts
   */
  constructor(level: readonly TraceLevel[], parent: number, onFinish: (text: string) => void) {
    this.#level = level;
    this.#parent = parent;
    this.#onFinish = onFinish;
  }

  /** The trace of a request that this one's model makes to another; it ends with this one. */
  child(): Trace {
    const child = new Trace(this.#level, this.id, () => {});
    this.#children.push(child);
    return child;
  }

  /** Say which model's request it is. */
  begin(model: string, version: string, requestId: string): void {
    const request = requestId === '' ? '' : `,"request_id":${JSON.stringify(requestId)}`;
    const parent = this.#parent === 0 ? '' : `,"parent_id":${this.#parent}`;
    this.#head = `{"id":${this.id},"model_name":${JSON.stringify(model)},"model_version":${version}${request}${parent}}`;
    this.mark('REQUEST_START');
  }

  mark(name: string, ns: number = now()): void {
    if (!this.#level.includes('TIMESTAMPS')) return;
    this.#entries.push({ ns, text: `{"id":${this.id},"timestamps":[{"name":"${name}","ns":${ns}}]}` });
  }

  /** Where a successful request's time went, once that is known. */
  computed(arrived: number, started: number, { computeInput, computeInfer, computeOutput }: BatchTimes): void {
    this.mark('QUEUE_START', arrived);
    this.mark('COMPUTE_START', started);
    this.mark('COMPUTE_INPUT_END', started + computeInput);
    this.mark('COMPUTE_OUTPUT_START', started + computeInput + computeInfer);
    this.mark('COMPUTE_END', started + computeInput + computeInfer + computeOutput);
  }

  tensors(activity: string, tensors: Iterable<Tensor>): void {
    if (!this.#level.includes('TENSORS')) return;
    const ns = now();
    for (const tensor of tensors) {
      const { name, datatype, shape } = tensor;
      const fields = { name, data: printData(tensor), shape: printShape(shape).slice(1, -1), dtype: datatype };
      const text = `{"id":${this.id},"activity":"${activity}","tensor":${JSON.stringify(fields)}}`;
      this.#entries.push({ ns, text });
    }
  }

  /** Nothing more comes. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#onFinish(this.#print());
  }

  #print(): string {
    // Times inside the model are known only at its end.
    const entries = [...this.#entries].sort((a, b) => a.ns - b.ns).map(({ text }) => text);
    const own = this.#head === '' ? entries : [this.#head, ...entries];
    return [...own, ...this.#children.map((child) => child.#print())].filter((text) => text !== '').join(',');
  }
}

/** Elements behind commas. Half-precision types have no text in JSON: they are printed as bytes. */
function printData(tensor: Tensor): string {
  if (tensor.datatype === 'FP16' || tensor.datatype === 'BF16') return Buffer.from(tensor.data).toString('hex');
  try {
    return printElements(tensor).join(',');
  } catch {
    // No request fails because it is traced.
    return 'too large to be printed';
  }
}
