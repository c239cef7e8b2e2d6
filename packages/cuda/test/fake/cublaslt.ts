import { CUBLASLT_TABLE, HEURISTIC, type CublasLtName } from '../../src/cublaslt-table.ts';
import type { Ffi, ForeignFunction, HostData } from '../../src/ffi.ts';
import { getWord, setWord } from '../../src/structs.ts';

/** What one call of `cublasLtMatmul` asked for. */
export interface FakeProduct {
  readonly w: number;
  readonly x: number;
  readonly y: number;
  readonly workspace: number;
  readonly workspaceBytes: number;
  readonly stream: number;
  /** Rows, columns and leading dimension of w, x and y as the library sees them. */
  readonly layouts: readonly (readonly number[])[];
  readonly attributes: ReadonlyMap<number, number>;
}

/** cuBLASLt without arithmetic: it keeps account of handles and of what it was asked for. */
export class FakeCublasLt implements Ffi {
  readonly products: FakeProduct[] = [];
  /** Handles that are alive, with what they are. */
  readonly alive: Map<number, string> = new Map();
  /** Status of the next call of each function. */
  readonly injected: Map<CublasLtName, number> = new Map();
  /** Functions that this version lacks. */
  readonly without: Set<string> = new Set();
  /** How many algorithms the heuristic finds. */
  algorithms = 1;
  workspaceBytes = 4096;
  readonly #layouts = new Map<number, number[]>();
  readonly #attributes = new Map<number, number>();
  #next = 0x7000_0000;

  find(name: string): ForeignFunction | undefined {
    if (this.without.has(name) || !(name in CUBLASLT_TABLE)) return undefined;
    const known = name as CublasLtName;
    return (...values: HostData[]) => {
      const code = this.injected.get(known);
      this.injected.delete(known);
      return code ?? this.#call(known, values);
    };
  }

  address(): number {
    throw new Error('no pointers of cuBLASLt hold host addresses');
  }
  view(): ArrayBuffer {
    throw new Error('cuBLASLt has no memory of the host');
  }

  #call(name: CublasLtName, values: HostData[]): number {
    const numbers = values as number[];
    switch (name) {
      case 'cublasLtGetVersion':
        return 130100;
      case 'cublasLtCreate':
      case 'cublasLtMatmulDescCreate':
      case 'cublasLtMatmulPreferenceCreate':
      case 'cublasLtMatrixLayoutCreate': {
        const handle = this.#create(name, values[0] as DataView);
        if (name === 'cublasLtMatrixLayoutCreate') this.#layouts.set(handle, numbers.slice(2));
        return 0;
      }
      case 'cublasLtDestroy':
      case 'cublasLtMatmulDescDestroy':
      case 'cublasLtMatmulPreferenceDestroy':
      case 'cublasLtMatrixLayoutDestroy':
        return this.alive.delete(numbers[0]) ? 0 : 7;
      case 'cublasLtMatmulDescSetAttribute': {
        const view = values[2] as DataView;
        const bytes = new DataView(view.buffer, view.byteOffset, view.byteLength);
        const value = { 1: () => bytes.getInt8(0), 4: () => bytes.getInt32(0, true), 8: () => getWord(bytes, 0) };
        this.#attributes.set(numbers[1], value[numbers[3] as keyof typeof value]());
        return 0;
      }
      case 'cublasLtMatmulPreferenceSetAttribute':
        return 0;
      case 'cublasLtMatmulAlgoGetHeuristic': {
        setWord(values[8] as DataView, HEURISTIC.workspaceBytes, this.workspaceBytes);
        (values[9] as DataView).setInt32(0, this.algorithms, true);
        return 0;
      }
      case 'cublasLtMatmul': {
        const layout = (handle: number): readonly number[] => this.#layouts.get(handle) ?? [];
        this.products.push({
          w: numbers[3],
          x: numbers[5],
          y: numbers[10],
          workspace: numbers[13],
          workspaceBytes: numbers[14],
          stream: numbers[15],
          layouts: [layout(numbers[4]), layout(numbers[6]), layout(numbers[11])],
          attributes: new Map(this.#attributes),
        });
        return 0;
      }
    }
  }

  #create(kind: string, out: DataView): number {
    const handle = (this.#next += 8);
    this.alive.set(handle, kind);
    setWord(out, 0, handle);
    return handle;
  }
}
