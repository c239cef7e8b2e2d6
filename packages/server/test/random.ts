export interface Random {
  readonly integer: (below: number) => number;
  readonly pick: <T>(from: readonly T[]) => T;
}

/** Reproducible random choices: a 32-bit linear congruential generator (Numerical Recipes). */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const integer = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return { integer, pick: (from) => from[integer(from.length)] };
}
