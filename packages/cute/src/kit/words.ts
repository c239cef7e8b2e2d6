import { result, results, typed, type Int } from '../atoms/record.ts';
import type { Word } from '../atoms/matrix.ts';

/** Two float32 as one word of 16-bit floats, low first, rounded to nearest even. */
export function packWord(low: Int, high: Int, type: 'bf16' | 'f16'): Word {
  const pair = result<never>('convert', `${type}x2`, { args: [typed(low, 'f32'), typed(high, 'f32')] });
  return result('bitcast', 'b32', { args: [pair] });
}

/** The four 8-bit floats of a word as float32, low first. Exact. */
export function widenWord(word: Word, type: 'e4m3' | 'e5m2'): Int[] {
  const bytes = results('unpack', [type, type, type, type], {
    args: [result('bitcast', `${type}x4`, { args: [typed(word, 'b32')] })],
  });
  return [0, 2].flatMap((first) => {
    const pair = result<never>('pack', `${type}x2`, {
      args: [typed(bytes[first], type), typed(bytes[first + 1], type)],
    });
    const halves = results('unpack', ['f16', 'f16'], { args: [result<never>('convert', 'f16x2', { args: [pair] })] });
    return halves.map((half) => result('convert', 'f32', { args: [typed(half, 'f16')] }));
  });
}
