/** The measurement in a process of its own, in which V8 makes 256-bit vectors of pairs where it can, as Rose has it. */
import { setFlagsFromString } from 'node:v8';
import { answerCalls } from './child.ts';
import { measureLimits } from './limits.ts';

setFlagsFromString('--experimental-wasm-revectorize');

answerCalls({ measure: (threads: number) => measureLimits(threads) });
