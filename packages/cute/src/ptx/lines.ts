import { fileName } from '../ir/file-name.ts';
import type { Position } from '../ir/ir.ts';

/**
 * The line table: `.file` and `.loc` directives (PTX ISA, "Debugging directives"). A position inside an inlined helper
 * names the function and the call, as `.loc FILE LINE COLUMN, function_name LABEL, inlined_at FILE LINE COLUMN`; the
 * assembler wants the call's own `.loc` before it.
 */
export class LineTable {
  private readonly files = new Map<string, number>();
  private readonly functions = new Map<string, string>();
  private readonly known = new Map<string, string>();
  private last: Position | undefined;
  private lastText = '';

  /** Directives to put before the next instruction: none where the position is still the same. */
  directives(position: Position, out: string[]): void {
    if (position === this.last) return;
    this.last = position;
    const place = this.place(position);
    const text = this.known.get(place) ?? this.introduce(position, place, out);
    if (text !== this.lastText) out.push(text);
    this.lastText = text;
  }

  /** `.file` directives, for the head of the module. */
  header(): string[] {
    return Array.from(this.files, ([file, index]) => `.file ${index} ${quote(file)}`);
  }

  /** The names of inlined functions, for the end of the module. */
  footer(): string[] {
    if (this.functions.size === 0) return [];
    const out = ['.section .debug_str', '{'];
    for (const [name, label] of this.functions) {
      out.push(`${label}:`, `.b8 ${[...new TextEncoder().encode(name), 0].join(',')}`);
    }
    out.push('}');
    return out;
  }

  private introduce(position: Position, place: string, out: string[]): string {
    let text = `.loc ${place}`;
    if (position.inlinedAt) {
      const call = position.inlinedAt;
      const callPlace = this.place(call);
      if (!this.known.has(callPlace)) out.push(this.introduce(call, callPlace, out));
      text = `.loc ${this.coordinates(position)}, function_name ${this.function(position.name ?? 'anonymous')}, inlined_at ${this.coordinates(call)}`;
    }
    this.known.set(place, text);
    return text;
  }

  /** A key of a position with the calls around it. */
  private place(position: Position): string {
    const here = this.coordinates(position);
    return position.inlinedAt ? `${here} < ${this.place(position.inlinedAt)}` : here;
  }

  private coordinates(position: Position): string {
    let index = this.files.get(position.file);
    if (index === undefined) this.files.set(position.file, (index = this.files.size + 1));
    return `${index} ${position.line} ${position.column}`;
  }

  private function(name: string): string {
    let label = this.functions.get(name);
    if (label === undefined) this.functions.set(name, (label = `$name_${this.functions.size}`));
    return label;
  }
}

function quote(file: string): string {
  return `"${fileName(file).replace(/["\\\n]/g, '_')}"`;
}
