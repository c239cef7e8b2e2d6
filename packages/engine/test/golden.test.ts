import { checkChat, checkEncoders, PRINTED } from './golden-checks.ts';
import { bundled, openOnCpu } from './on-cpu.ts';

// The kernels multiply bfloat16 weights with float32 activations, so little is lost..
checkChat('with bfloat16 weights', () => openOnCpu(bundled('tiny-chat')), 2e-2);
checkChat('with float32 weights', () => openOnCpu(bundled('tiny-chat'), { dtype: 'f32' }), 1e-4 + PRINTED);
checkEncoders('on the CPU', (name) => openOnCpu(bundled(name)), { scores: 1e-3, cosine: 0.9999 });
