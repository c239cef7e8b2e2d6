import { getWord } from './structs.ts';

/** Eight bytes that a call writes its answer to. */
export class Out {
  readonly data: DataView = new DataView(new ArrayBuffer(8));

  get i32(): number {
    return this.data.getInt32(0, true);
  }
  get f32(): number {
    return this.data.getFloat32(0, true);
  }
  /** A handle, address or size. */
  get word(): number {
    return getWord(this.data, 0);
  }
}

/** The bytes of a C string up to its end. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
