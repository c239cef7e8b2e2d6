export function todo(_: unknown): never {
  throw new Error('later');
}
