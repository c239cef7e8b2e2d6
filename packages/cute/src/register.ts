/** `node --import @rose/cute/register`: kernels in files that are imported afterwards are transformed. */
import { installHook } from './transform/hook.ts';

installHook();
