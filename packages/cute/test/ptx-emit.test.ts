import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel, type Compiled } from '../src/compile.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { decodeRing, describeRecord, RING_HEADER_WORDS } from '../src/ptx/ring.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';

const HEAD = `kernel "k" (128, 1, 1)
param tensor "x" bf16 align 16 readwrite
param value "n" i32
param tensormap "map"
param value "flag" pred
slot $0 i32 "i"
at @0 "file:///k/rows.ts" 3 5
at @1 "file:///k/main.ts" 20 9
at @2 "file:///k/help.ts" 7 3 "sum" in @1
body {
  %0: ptr.global = param() {index: 0} @0
  %1: i32 = param() {index: 1} @0
  %2: i32 = special() {name: "tid.x"} @0
  %3: pred = compare(%2, %1) {test: "lt"} @0
`;

function compile(body: string, options: { arch?: string; optimise?: boolean } = {}): Compiled {
  return compileKernel(parseKernel(`${HEAD}${body}\n}\n`), { arch: 'sm_90a', ...options });
}

/** Instructions without positions, registers by class only. */
function code(body: string, options?: { arch?: string; optimise?: boolean }): string[] {
  return compile(body, options)
    .program.ptx.split('\n')
    .filter((line) => /^(\$| {2}(?!\.reg|\.param))/.test(line))
    .map((line) =>
      line
        .trim()
        .replaceAll(/%([phrdq])\d+/g, '%$1')
        .replaceAll(/_\d+/g, ''),
    );
}

test('the head: version, target, threads, parameters and where they lie', () => {
  const { program, isa } = compile('');
  assert.match(program.ptx, /^\.version 8\.0\n\.target sm_90a\n\.address_size 64\n/);
  assert.match(program.ptx, /\.reqntid 128, 1, 1\n\{/);
  assert.equal(isa, 8);
  assert.deepEqual(
    program.params.map(({ kind, offset, size, align }) => [kind, offset, size, align]),
    [
      ['pointer', 0, 8, 16],
      ['i32', 8, 4, undefined],
      ['tensormap', 64, 128, undefined],
      ['u8', 192, 1, undefined],
    ],
  );
  assert.equal(program.paramBytes, 193);
  assert.equal(compileKernel(parseKernel('kernel "k" (1, 1, 1)\nbody {\n}'), { arch: 'sm_80' }).isa, 7);
});

test('directives of the launch', () => {
  const text = 'kernel "k" (64, 2, 1)\ncluster (2, 1, 1)\nmin_blocks 2\nmax_registers 96\nbody {\n}';
  const { program } = compileKernel(parseKernel(text), { arch: 'sm_90a' });
  assert.match(
    program.ptx,
    /\.reqntid 64, 2, 1\n\.explicitcluster\n\.reqnctapercluster 2, 1, 1\n\.minnctapersm 2\n\.maxnreg 96\n/,
  );
  assert.deepEqual([program.cluster, program.maxRegisters], [[2, 1, 1], 96]);
  assert.throws(() => compileKernel(parseKernel(text), { arch: 'sm_80' }), /a cluster needs sm_90/);
});

test('positions, with the call that a helper was inlined into', { skip: WITHOUT_PTXAS }, () => {
  const { program } = compile('%10: bf16 = load(%0) {count: 1} @2\nstore(%0, %10) {count: 1, bytes: 2} @0');
  assert.match(program.ptx, /\.file 1 "\/k\/rows\.ts"\n/);
  assert.match(program.ptx, /\.loc 3 20 9\n\.loc 2 7 3, function_name \$name_0, inlined_at 3 20 9\n {2}ld\.global/);
  assert.match(program.ptx, /\.section \.debug_str\n\{\n\$name_0:\n\.b8 115,117,109,0\n\}/);
  assert.equal(assemble(program.ptx, 'sm_90a').errors, '');
});

test('a branch that only jumps is a predicate on the jump', () => {
  const loop = `loop() {label: "l", unroll: 1} body {
 if(%3) then {
 break() {label: "l"}
 } else {
 }
 barrier() {aligned: false}
} latch {
}`;
  assert.deepEqual(code(loop).slice(-8), [
    '$loop:',
    '.pragma "nounroll";',
    '@%p bra $exit;',
    'barrier.sync 0;',
    '$latch:',
    'bra $loop;',
    '$exit:',
    'ret;',
  ]);
  const branch = 'if(%3) then {\n fence()\n} else {\n nanosleep(%5)\n}';
  assert.deepEqual(code(`%5: u32 = const() {value: 9}\n${branch}`).slice(-7), [
    '@!%p bra $else;',
    'fence.acq_rel.gpu;',
    'bra $endif;',
    '$else:',
    'nanosleep.u32 9;',
    '$endif:',
    'ret;',
  ]);
  assert.deepEqual(code('if(%3) then {\n return()\n} else {\n}\nfence()').slice(-3), [
    '@%p ret;',
    'fence.acq_rel.gpu;',
    'ret;',
  ]);
});

test('elements travel packed, as wide as the alignment allows', () => {
  const move = (count: number, align: number): string[] => {
    const values = Array.from({ length: count }, (_, i) => `%${20 + i}`);
    return code(
      `${values.map((value) => `${value}: bf16`).join(', ')} = load(%0) {count: ${count}, align: ${align}}\nstore(%0, ${values.join(', ')}) {count: ${count}, align: ${align}}`,
    ).filter((line) => /^(ld|st)\.global/.test(line));
  };
  assert.deepEqual(move(8, 16), [
    'ld.global.v4.b32 {%r, %r, %r, %r}, [%d];',
    'st.global.v4.b32 [%d], {%r, %r, %r, %r};',
  ]);
  assert.deepEqual(move(8, 8).length, 4);
  assert.deepEqual(move(2, 2), [
    'ld.global.b16 %h, [%d];',
    'ld.global.b16 %h, [%d+2];',
    'st.global.b16 [%d], %h;',
    'st.global.b16 [%d+2], %h;',
  ]);
  // What is only moved is never taken apart.
  const text = code('%20: bf16, %21: bf16 = load(%0) {count: 2, align: 4}\nstore(%0, %20, %21) {count: 2, align: 4}');
  assert.ok(!text.some((line) => line.startsWith('mov.b32 {')));
});

test('floats are rounded by themselves', () => {
  const list = code(
    '%20: f32 = load(%0) {count: 1, align: 4}\n%21: f32 = mul(%20, %20)\n%22: f32 = add(%21, %20)\n%23: f32 = fma(%20, %21, %22)\nstore(%0, %23) {count: 1, align: 4}',
  );
  assert.deepEqual(
    list.filter((line) => line.includes('f32')),
    ['mul.rn.f32 %r, %r, %r;', 'add.rn.f32 %r, %r, %r;', 'fma.rn.f32 %r, %r, %r, %r;'],
  );
});

test('addresses have 64 bits however large the index gets', () => {
  assert.ok(
    code('%20: ptr.global = ptr_add(%0, %1) {scale: 2}\nprefetch(%20) {level: "l2"}').includes(
      'mad.wide.s32 %d, %r, 2, %d;',
    ),
  );
  // A sum of 32 bits may wrap: it stays a sum of 32 bits.
  const sum = code(
    '%19: i32 = const() {value: 1000000000}\n%20: i32 = add(%1, %19)\n%21: ptr.global = ptr_add(%0, %20) {scale: 4}\nprefetch(%21) {level: "l2"}',
  );
  assert.ok(sum.includes('add.s32 %r, %r, 1000000000;'));
  // That of a thread's number does not.
  const thread = code(
    '%19: i32 = const() {value: 8}\n%20: i32 = add(%2, %19)\n%21: ptr.global = ptr_add(%0, %20) {scale: 4}\nprefetch(%21) {level: "l2"}',
  );
  assert.deepEqual(thread.slice(-4, -1), [
    'mad.wide.s32 %d, %r, 4, %d;',
    'add.s64 %d, %d, 32;',
    'prefetch.global.L2 [%d];',
  ]);
});

test('too much shared memory says what takes it', () => {
  const text = 'kernel "k" (1, 1, 1)\nshared 0 "stages" f32 bytes 262144 align 128\nbody {\n}';
  assert.throws(
    () => compileKernel(parseKernel(text), { arch: 'sm_90a' }),
    /takes 262144 bytes of shared memory; a CTA of sm_90a has 232448\. The largest are stages: 262144/,
  );
});

test('every asm operand has its register', () => {
  const list = code('%20: u32 = asm(%1, %2) {template: "add.u32 $0, $1, $2", effect: "read"}\nnanosleep(%20)');
  assert.ok(list.includes('add.u32 %r, %r, %r;'));
  assert.throws(
    () => compile('%20: u32 = asm(%1) {template: "add.u32 $0, $1, $2"}\nnanosleep(%20)'),
    /\$2 is beyond the 2 operands/,
  );
});

test('prints and assertions reach the host', { skip: WITHOUT_PTXAS }, () => {
  const body = `%20: bf16 = load(%0) {count: 1}
%21: i64 = convert(%1)
print(%20, %3, %21, %2) {format: "x {} in {} n {} t {}"} @2
assert(%3) {message: "row is there"} @0`;
  const { program, sites } = compile(body);
  assert.deepEqual(program.params.at(-1)!.name, 'ring');
  assert.equal(assemble(program.ptx, 'sm_90a').errors, '');
  assert.deepEqual(compile('').sites, []);

  // What the device writes, by hand.
  const capacity = 24;
  const words = new Uint32Array(RING_HEADER_WORDS + capacity);
  words.set([10 + 5 + 30, capacity, 0, 0]);
  words.set([1, 7, 0, 0, 3 | (2 << 10) | (1 << 20), 0xbfc0, 1, 0xfffffffb, 0xffffffff, 0xfffffffe], RING_HEADER_WORDS);
  words.set([2, 8, 1, 0, 5], RING_HEADER_WORDS + 10);
  const { records, overflowed } = decodeRing(new Uint8Array(words.buffer), sites);
  assert.equal(overflowed, true);
  assert.deepEqual(
    records.map(({ values }) => values),
    [[-1.5, true, -5n, -2], []],
  );
  assert.deepEqual(records.map(describeRecord), [
    '/k/help.ts:7:3 (called at /k/main.ts:20:9) [block 7,0,0 thread 3,2,1] x -1.5 in true n -5 t -2',
    '/k/rows.ts:3:5 [block 8,1,0 thread 5,0,0] assertion failed: row is there',
  ]);
});
