/**
 * What the daemon talks to: a way to mount, an engine that serves the mount, and the few system calls that Node lacks.
 * A second backend implements this and nothing else of the daemon changes.
 */
import type { NativeBinding } from '../native/binding.js';
import { SiteswapError } from '../util/errors.js';
import type { Capabilities } from './capabilities.js';

export type {
  Attributes,
  Change,
  Conflict,
  DirectoryEntry,
  Engine,
  EngineEvent,
  EngineOptions,
  Feature,
  LowerChange,
  LowerCheck,
  LowerCheckOptions,
  ScanProgress,
  SessionInfo,
  View,
} from '../native/binding.js';

export const BACKENDS = ['native'] as const;
export type BackendName = (typeof BACKENDS)[number];

export interface MountOptions {
  /** Absolute path of the store: what `/proc/self/mountinfo` shows, and how commands find the store of a mount. */
  source: string;
  allowOther: boolean;
}

export interface Backend extends Pick<
  NativeBinding,
  | 'createEngine'
  | 'tryLock'
  | 'peerCredentials'
  | 'sendDescriptor'
  | 'receiveDescriptor'
  | 'syncFilesystem'
  | 'scanLower'
  | 'checkLower'
  | 'checkManifest'
> {
  readonly name: BackendName;
  readonly capabilities: Capabilities;
  /** The descriptor that requests are read from; whoever holds it keeps the connection. */
  mount(target: string, options: MountOptions): number;
  /** Throws with code EBUSY when in use, unless lazy. */
  unmount(target: string, options: { lazy: boolean }): void;
}

/** Each adapter is imported only when it is used. */
export async function loadBackend(name: string): Promise<Backend> {
  if (name === 'native') return (await import('./native-backend.js')).createNativeBackend();
  throw new SiteswapError('USAGE', `there is no backend '${name}'`, `Backends: ${BACKENDS.join(', ')}.`);
}
