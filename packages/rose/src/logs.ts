import { Option, type Command } from 'commander';
import type { ServerOptions } from '@rose/server';
import { CommandError, ExitCode } from './errors.ts';
import { collect, integer } from './options.ts';

type Switch = 'true' | 'false';

/** What the command line says of the log and of traces. */
export interface LogFlags {
  logFile?: string;
  logInfo: Switch;
  logWarning: Switch;
  logError: Switch;
  logVerbose: number;
  logFormat: 'default' | 'ISO8601';
  traceConfig?: string[];
}

export function addLogOptions(command: Command): Command {
  const onOff = (flag: string, what: string): Option =>
    new Option(`${flag} <boolean>`, `log ${what}`).choices(['true', 'false']).default('true');
  return command
    .option('--log-file <file>', 'file that the log is added to (default: stderr)')
    .addOption(onOff('--log-info', 'information, such as models that are loaded'))
    .addOption(onOff('--log-warning', 'warnings'))
    .addOption(onOff('--log-error', 'faults of Rose'))
    .option('--log-verbose <level>', 'from 1 on every request has a line in the log', integer(0, 2 ** 31 - 1), 0)
    .addOption(
      new Option('--log-format <format>', 'times in the log as milliseconds since 1970, or as text')
        .choices(['default', 'ISO8601'])
        .default('default'),
    )
    .option('--trace-config <setting>', `what is traced: ${SETTINGS} (several times)`, collect);
}

export function logOptions(flags: LogFlags): NonNullable<ServerOptions['log']> {
  return {
    info: flags.logInfo === 'true',
    warning: flags.logWarning === 'true',
    error: flags.logError === 'true',
    verbose: flags.logVerbose,
    format: flags.logFormat,
    ...(flags.logFile !== undefined && { file: flags.logFile }),
  };
}

type TraceOptions = NonNullable<ServerOptions['trace']>;

const SETTINGS =
  'triton,file=FILE, level=TIMESTAMPS (or TENSORS, OFF), rate=N, count=N, triton,log-frequency=N and mode=triton';

/** Settings as Triton's command line has them: those of its own mode stand behind `triton,`. */
export function traceOptions({ traceConfig = [] }: LogFlags): TraceOptions {
  const options: { -readonly [Name in keyof TraceOptions]: TraceOptions[Name] } = {};
  for (const setting of traceConfig) {
    const [, name, value] = /^([^=]+)=(.+)$/.exec(setting) ?? [];
    if (name === 'triton,file') options.file = value;
    else if (name === 'level') options.level = withLevel(options.level ?? [], value, setting);
    else if (name === 'rate') options.rate = number(value, 0, setting);
    else if (name === 'count') options.count = number(value, -1, setting);
    else if (name === 'triton,log-frequency') options.logFrequency = number(value, 0, setting);
    else if (setting === 'mode=opentelemetry' || setting.startsWith('opentelemetry,'))
      throw wrong(setting, "Rose does not send traces of OpenTelemetry; it writes Triton's own files, mode=triton");
    else if (name !== 'mode' || value !== 'triton')
      throw wrong(setting, `there is no such setting; there are ${SETTINGS}`);
  }
  if ((options.level ?? []).length > 0) {
    if (options.file === undefined) throw wrong('level', 'traces need a file: add --trace-config triton,file=FILE');
    if (options.rate === 0) throw wrong('rate=0', 'one request of N is traced, so N is at least 1');
  }
  return options;
}

function withLevel(
  before: TraceOptions['level'] & object,
  value: string,
  setting: string,
): TraceOptions['level'] & object {
  if (value === 'OFF') return before;
  if (value === 'TIMESTAMPS' || value === 'TENSORS') return [...new Set([...before, value] as const)];
  throw wrong(setting, 'a level is OFF, TIMESTAMPS or TENSORS');
}

function number(value: string, least: number, setting: string): number {
  if (/^-?\d{1,9}$/.test(value) && Number(value) >= least) return Number(value);
  throw wrong(setting, `give a whole number of at least ${least}`);
}

function wrong(setting: string, why: string): CommandError {
  return new CommandError(ExitCode.usage, `--trace-config ${setting}: ${why}.`);
}
