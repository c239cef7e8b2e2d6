/** The protocols of Rose over one port. */
export { startServer, type RunningServer, type ServerOptions } from './server.ts';
export type { ControlMode, RepositoryOptions } from './repository/options.ts';
export type { AccessOptions, Restriction } from './access/access.ts';
export { checkOrigins } from './http/cors.ts';
export { checkTls } from './tls.ts';
export type { GpuReading } from './metrics/machine.ts';
export type { EngineOptions } from './backend/engine.ts';
