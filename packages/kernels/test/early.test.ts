import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import attentionCombine from '../src/attention_combine.ts';
import attentionDecode from '../src/attention_decode.ts';
import embedding from '../src/embedding.ts';
import layernorm from '../src/layernorm.ts';
import qkRopeCache from '../src/qk_rope_cache.ts';
import rmsnorm from '../src/rmsnorm.ts';
import sample from '../src/sample.ts';
import { specialise, type KernelModule } from '../src/spec.ts';
import unpack from '../src/unpack.ts';

/** Where in a kernel's code it waits for those before it, and where it lets the next one start; -1: nowhere. */
function dependences(module: KernelModule, arch: string): { waits: number; releases: number } {
  const { ptx } = compileKernel(module.trace(specialise(module, module.cases[0])), { arch }).program;
  const [waits, releases] = ['wait', 'launch_dependents'].map((what) => ptx.indexOf(`griddepcontrol.${what}`));
  return { waits, releases };
}

for (const module of [rmsnorm, layernorm]) {
  test(`${module.name} lets the next kernel start before it waits itself, so that weights are loaded meanwhile`, () => {
    const { waits, releases } = dependences(module, 'sm_90a');
    assert.ok(releases >= 0 && releases < waits, `${releases}, ${waits}`);
    assert.deepEqual(dependences(module, 'sm_80'), { waits: -1, releases: -1 });
  });
}

for (const module of [qkRopeCache, attentionDecode, attentionCombine]) {
  test(`${module.name} waits first: the CTAs of what reads the cache come to multiprocessors that are free`, () => {
    const { waits, releases } = dependences(module, 'sm_90a');
    assert.ok(waits >= 0 && releases > waits, `${releases}, ${waits}`);
  });
}

for (const module of [unpack, embedding, sample]) {
  test(`${module.name} waits first: what was written before it stands for all that come behind it`, () => {
    const { waits, releases } = dependences(module, 'sm_90a');
    assert.ok(waits >= 0 && (releases === -1 || releases > waits), `${releases}, ${waits}`);
  });
}
