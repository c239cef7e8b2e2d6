import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The assembler to test with: `ROSE_PTXAS`, or `ptxas` of the PATH; nothing where there is none. */
export const PTXAS: string | undefined = find();

/** Reason to skip a test that assembles, or false. */
export const WITHOUT_PTXAS: string | false =
  PTXAS === undefined && 'ptxas is absent: set ROSE_PTXAS to the path of CUDA 13 ptxas';

function find(): string | undefined {
  const name = process.env.ROSE_PTXAS ?? 'ptxas';
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' });
    return name;
  } catch {
    return undefined;
  }
}

/** Assembles a PTX module. `errors` is empty where ptxas took it; `info` is what `-v` says of registers and spills. */
export function assemble(ptx: string, arch: string, options: readonly string[] = []): { errors: string; info: string } {
  const folder = mkdtempSync(join(tmpdir(), 'rose-ptx-'));
  try {
    const source = join(folder, 'kernel.ptx');
    writeFileSync(source, ptx);
    const args = ['-v', `-arch=${arch}`, ...options, source, '-o', join(folder, 'kernel.cubin')];
    const { status, stderr } = spawnSync(PTXAS ?? 'ptxas', args, { encoding: 'utf8' });
    return status === 0 ? { errors: '', info: stderr } : { errors: stderr || `ptxas ended with ${status}`, info: '' };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
