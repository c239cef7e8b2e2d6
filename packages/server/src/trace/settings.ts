import { invalid, TritonError } from '../triton/errors.ts';

/** What a trace holds. */
export type TraceLevel = 'TIMESTAMPS' | 'TENSORS';

export interface TraceSettings {
  /** None: nothing is traced. */
  readonly level: readonly TraceLevel[];
  /** One request of so many is traced. */
  readonly rate: number;
  /** Requests still to be traced; -1: without end. */
  readonly count: number;
  /** Traces in each numbered file; 0: all in one. */
  readonly logFrequency: number;
}

/** What is set anew, and what is set no longer (null). */
export type TraceChange = { readonly [Name in keyof TraceSettings]?: TraceSettings[Name] | null };

/** Triton's. */
export const DEFAULT_TRACE: TraceSettings = { level: [], rate: 1000, count: -1, logFrequency: 0 };

const UINT32_MAX = 2 ** 32 - 1;
const INT32_MAX = 2 ** 31 - 1;

/**
 * Read a change from the protocol's names and texts.
 * @param settings no text: the setting is cleared
 */
export function readTraceChange(settings: Iterable<readonly [name: string, texts: readonly string[]]>): TraceChange {
  const change: { -readonly [Name in keyof TraceChange]: TraceChange[Name] } = {};
  for (const [name, texts] of settings) {
    switch (name) {
      case 'trace_level':
        change.level = texts.length === 0 ? null : readLevel(texts);
        break;
      case 'trace_rate':
        change.rate = readNumber(name, texts, 0, UINT32_MAX);
        break;
      case 'trace_count':
        change.count = readNumber(name, texts, -1, INT32_MAX);
        break;
      case 'log_frequency':
        change.logFrequency = readNumber(name, texts, 0, UINT32_MAX);
        break;
      case 'trace_file':
        throw new TritonError(501, 'trace file location can not be updated through network protocol');
      default:
        throw invalid(`there is no trace setting '${name}' that can be updated`);
    }
  }
  return change;
}

/** The protocol's names and texts. */
export function printTraceSettings(settings: TraceSettings, file: string): Record<string, string | readonly string[]> {
  return {
    trace_level: settings.level.length === 0 ? ['OFF'] : settings.level,
    trace_rate: String(settings.rate),
    trace_count: String(settings.count),
    log_frequency: String(settings.logFrequency),
    trace_file: file,
    trace_mode: 'triton',
  };
}

function readLevel(texts: readonly string[]): TraceLevel[] {
  if (texts.includes('OFF')) {
    if (texts.length === 1) return [];
    throw invalid("Expect only one trace level 'OFF' is specified");
  }
  const unknown = texts.find((text) => text !== 'TIMESTAMPS' && text !== 'TENSORS');
  if (unknown !== undefined) throw invalid(`there is no trace level '${unknown}': OFF, TIMESTAMPS, TENSORS`);
  return (['TIMESTAMPS', 'TENSORS'] as const).filter((level) => texts.includes(level));
}

function readNumber(name: string, texts: readonly string[], least: number, most: number): number | null {
  if (texts.length === 0) return null;
  if (texts.length > 1) throw invalid(`expect only 1 value for '${name}'`);
  const [text] = texts;
  if (!/^\s*[+-]?\d+$/.test(text)) throw invalid(`Unable to parse '${name}', got: ${text}`);
  const value = Number(text);
  if (value >= least && value <= most) return value;
  if (name === 'trace_count' && value < least) {
    throw invalid(`Unable to parse '${name}'. Expecting value >= ${least}, got: ${text}`);
  }
  throw invalid(`Unable to parse '${name}', value is out of range [ ${least}, ${most} ], got: ${text}`);
}
