import assert from 'node:assert/strict';
import type { InstructionForm } from '../src/atoms/form.ts';
import { KernelError } from '../src/ir/error.ts';
import { assemble } from './ptxas.ts';
import { entryOf } from './forms.ts';

/** Versions of the PTX ISA at which something of ours came. */
const VERSIONS = [7, 7.4, 7.5, 7.8, 8, 8.1, 8.2, 8.3, 8.4, 8.5, 8.6, 8.7, 8.8];

interface Entry {
  readonly form: InstructionForm;
  readonly isa: number;
  readonly text: string;
  readonly code: string[];
}

/** The forms that an architecture has, by the ISA version that the emitter asks for. */
function byVersion(forms: readonly InstructionForm[], arch: string): Map<number, Entry[]> {
  const groups = new Map<number, Entry[]>();
  for (const [i, form] of forms.entries()) {
    let entry: Entry;
    try {
      entry = { form, ...entryOf(form, `k${i}`, arch) };
    } catch (error) {
      if (error instanceof KernelError && / needs sm_|is for sm_/.test(error.message)) continue;
      throw error;
    }
    const group = groups.get(entry.isa);
    if (group) group.push(entry);
    else groups.set(entry.isa, [entry]);
  }
  return groups;
}

/** Which entries ptxas refuses at a version, with what it says. */
function refused(entries: readonly Entry[], arch: string, isa: number): Map<Entry, string> {
  const lines = [`.version ${isa.toFixed(1)}`, `.target ${arch}`, '.address_size 64'];
  const owners: (Entry | undefined)[] = [undefined, undefined, undefined, undefined];
  for (const entry of entries) {
    for (const line of entry.text.split('\n')) {
      lines.push(line);
      owners.push(entry);
    }
  }
  const { errors } = assemble(`${lines.join('\n')}\n`, arch, ['-O0']);
  const out = new Map<Entry, string>();
  for (const match of errors.matchAll(/line (\d+); error\s*:(.*)/g)) {
    const owner = owners[Number(match[1])];
    assert.ok(owner, errors);
    out.set(owner, match[2]);
  }
  assert.ok(out.size > 0 || errors === '', errors);
  return out;
}

function describe(entry: Entry, message: string): string {
  return `${entry.form.op} ${JSON.stringify(entry.form.attributes)}:${message}\n  ${entry.code.join('\n  ')}`;
}

/**
 * Assembles every form that an architecture has at the version that the emitter chose, and asserts that no lower version
 * has it (lower than the architecture's own first version nobody asks). Returns how many forms that were.
 */
export function assembleForms(forms: readonly InstructionForm[], arch: string, first: number, lower = true): number {
  let count = 0;
  for (const [isa, entries] of byVersion(forms, arch)) {
    count += entries.length;
    const wrong = [...refused(entries, arch, isa)].map(([entry, message]) => describe(entry, message));
    assert.deepEqual(wrong, [], `${arch} at PTX ISA ${isa}`);
    if (isa <= first || !lower) continue;
    const below = VERSIONS[VERSIONS.indexOf(isa) - 1];
    const early = refused(entries, arch, below);
    const late = entries.filter((entry) => !early.has(entry)).map((entry) => describe(entry, ` is there at ${below}`));
    assert.deepEqual(late, [], `${arch}: the emitter asks for PTX ISA ${isa}`);
  }
  return count;
}
