/** The only import of `debug`: namespaces `siteswap:*`, switched on with the environment variable DEBUG, on stderr. */
import createDebug from 'debug';

export type DebugLog = (format: string, ...values: unknown[]) => void;

export function debugFor(namespace: string): DebugLog {
  return createDebug(`siteswap:${namespace}`);
}
