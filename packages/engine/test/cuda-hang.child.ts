/** A kernel that does not end: says what the stream makes of it, and ends as an engine does. */
import { Kernel, layoutParameters } from '@rose/cuda';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';

const SPIN = {
  name: 'spin',
  ...layoutParameters([{ name: 'x', kind: 'pointer' }]),
  sharedBytes: 0,
  threads: [32, 1, 1],
  ptx: `.version 8.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u64 x)
{
  .reg .pred %p;
  .reg .b32 %v;
  .reg .b64 %x;
  ld.param.u64 %x, [x];
AGAIN:
  ld.volatile.global.u32 %v, [%x];
  setp.eq.u32 %p, %v, 0;
  @%p bra AGAIN;
  ret;
}
`,
} as const;

const gpu = DriverGpu.open(0);
const word = gpu.alloc(256);
gpu.stream.fill(word, 0);
await gpu.stream.settled();
const kernel = new Kernel(gpu.context, SPIN);
kernel
  .prepare()
  .grid(1)
  .args({ x: word as never })
  .launch(gpu.stream.stream);
const message = await gpu.stream.settled(300).then(
  () => 'it ended',
  (error: Error) => error.message,
);
const after = await gpu.stream.settled(300).then(
  () => 'it ended',
  (error: Error) => error.message,
);
process.stdout.write(JSON.stringify({ message, lost: gpu.lost?.message, after }), () =>
  process.kill(process.pid, 'SIGKILL'),
);
