import { invalid, malformed, TritonError } from '../triton/errors.ts';

export type LogFormat = 'default' | 'ISO8601';

/** What is written to the log, in Triton's words. */
export interface LogSettings {
  readonly file: string;
  readonly info: boolean;
  readonly warning: boolean;
  readonly error: boolean;
  /** From 1 on every request has a line. */
  readonly verbose: number;
  /** Times as milliseconds since 1970, or as text. */
  readonly format: LogFormat;
}

const FORMATS: readonly string[] = ['default', 'ISO8601'] satisfies LogFormat[];
const SWITCHES = { log_info: 'info', log_warning: 'warning', log_error: 'error' } as const;

/** The protocol's names and values. */
export function printLogSettings(settings: LogSettings): Record<string, string | boolean | number> {
  return {
    log_file: settings.file,
    log_info: settings.info,
    log_warning: settings.warning,
    log_error: settings.error,
    log_verbose_level: settings.verbose,
    log_format: settings.format,
  };
}

/** A value of the wrong type, as the two protocols say it. */
export type WrongType = (name: string, expected: 'boolean' | 'unsigned-integer' | 'string') => TritonError;

export const wrongJsonType: WrongType = (_, expected) =>
  malformed(`attempt to access JSON non-${expected} as ${expected}`);

export const wrongParameterType: WrongType = (name, expected) =>
  invalid(`expect ${expected === 'unsigned-integer' ? 'uint32' : expected} for '${name}'`);

/** Read a change of the settings, from the protocol's names; null leaves one as it is. */
export function readLogChange(
  values: Iterable<readonly [string, unknown]>,
  wrongType: WrongType,
): Partial<LogSettings> {
  const change: { -readonly [Name in keyof LogSettings]?: LogSettings[Name] } = {};
  for (const [name, value] of values) {
    if (value === null) continue;
    if (name === 'log_file') {
      throw new TritonError(501, 'log file location can not be updated through network protocol');
    } else if (Object.hasOwn(SWITCHES, name)) {
      if (typeof value !== 'boolean') throw wrongType(name, 'boolean');
      change[SWITCHES[name as keyof typeof SWITCHES]] = value;
    } else if (name === 'log_verbose_level') {
      if (!Number.isInteger(value) || (value as number) < 0) throw wrongType(name, 'unsigned-integer');
      change.verbose = value as number;
    } else if (name === 'log_format') {
      if (typeof value !== 'string') throw wrongType(name, 'string');
      if (!FORMATS.includes(value)) throw new TritonError(503, `invalid argument for --log_format, got: ${value}`);
      change.format = value as LogFormat;
    } else {
      throw invalid(`there is no log setting '${name}'`);
    }
  }
  return change;
}
