import type { FastifyBaseLogger } from 'fastify';
import { pino } from 'pino';
import { RoseError } from '@rose/engine';
import type { LogSettings } from './settings.ts';

export interface LogOptions extends Partial<LogSettings> {
  /** Takes each line instead of the file. */
  readonly write?: (line: string) => void;
}

/** Triton's. */
const DEFAULTS: LogSettings = { file: '', info: true, warning: true, error: true, verbose: 0, format: 'default' };

const INFO = 30;
const WARNING = 40;
const ERROR = 50;

/** The server's log: a line of JSON an event, on stderr or in a file. What is written can change while it runs. */
export class ServerLog {
  readonly logger: FastifyBaseLogger;
  settings: LogSettings;

  /** @throws RoseError `invalid` where the file cannot be written */
  constructor({ write, ...settings }: LogOptions) {
    this.settings = { ...DEFAULTS, ...settings };
    const { file } = this.settings;
    const allows = (level: number): boolean => this.#allows(level);
    this.logger = pino(
      {
        name: 'rose',
        level: 'debug',
        timestamp: () => `,"time":${this.settings.format === 'default' ? Date.now() : `"${new Date().toISOString()}"`}`,
        hooks: {
          logMethod(args, method, level) {
            if (allows(level)) method.apply(this, args);
          },
        },
      },
      write === undefined ? destination(file) : { write },
    );
  }

  #allows(level: number): boolean {
    const { info, warning, error, verbose } = this.settings;
    if (level >= ERROR) return error;
    if (level >= WARNING) return warning;
    return level >= INFO ? info : verbose > 0;
  }
}

function destination(file: string): ReturnType<typeof pino.destination> {
  if (file === '') return pino.destination({ fd: 2, sync: true });
  try {
    return pino.destination({ dest: file, sync: true });
  } catch (error) {
    throw new RoseError('invalid', `cannot write the log file ${file}: ${(error as Error).message}`);
  }
}
