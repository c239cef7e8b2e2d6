import { resultOf } from './results.ts';

/** A failed call of the driver, in words. `message` names the call, the meaning and what to do. */
export class CudaError extends Error {
  /** CUresult. */
  readonly code: number;
  /** Its name, `CUDA_ERROR_...`. */
  readonly codeName: string;
  /** The function of the driver that said so. */
  readonly call: string;
  /** Said behind the code's name. */
  readonly detail: string;
  readonly meaning: string;
  readonly hint: string;
  /** This process cannot use the device any more. */
  readonly sticky: boolean;

  constructor(call: string, code: number, detail = '') {
    const { name, meaning, hint, sticky = false } = resultOf(code);
    const after = sticky ? '; the device is unusable for this process' : '';
    super(`${call} failed with ${name}${detail}: ${meaning}${after}; ${hint}`);
    this.name = 'CudaError';
    this.code = code;
    this.codeName = name;
    this.call = call;
    this.detail = detail;
    this.meaning = meaning;
    this.hint = hint;
    this.sticky = sticky;
  }
}

/** Each call after a sticky error; `cause` is the first one. */
export class DeviceLostError extends CudaError {
  constructor(call: string, device: string, first: CudaError) {
    super(call, first.code, ` (not called: ${device} is unusable since ${first.call} failed)`);
    this.name = 'DeviceLostError';
    this.cause = first;
  }
}

/** There is no driver, no GPU, or one too old. The message is one sentence for the person who started the process. */
export class CudaUnavailableError extends Error {
  constructor(message: string, options?: { cause: unknown }) {
    super(message, options);
    this.name = 'CudaUnavailableError';
  }
}

/** A use of this package that its contract forbids: nothing was called. */
export class CudaUsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CudaUsageError';
  }
}
