/**
 * Headgate as a library: everything that `import ... from 'headgate'` gives.
 *
 * Three ways in: `createGateway` runs a gateway in this process; `loadEnvoyConfig` reads an Envoy bootstrap for it; a
 * `FilterFactory` or an `HttpFilter` object adds a filter of your own, and `middleware` makes one of an async function.
 */
export type { ExchangeEnded, CallNext, Middleware } from '../chain/middleware.ts'
