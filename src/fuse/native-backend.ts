/** The default backend: the C++ addon speaks the FUSE protocol itself. */
import { FEATURES, type Feature, type NativeBinding } from '../native/binding.js';
import { loadBinding } from '../native/load.js';
import { SiteswapError, systemCode, describe } from '../util/errors.js';
import type { Backend } from './backend.js';
import { NATIVE_CAPABILITIES } from './capabilities.js';

export function createNativeBackend(binding: NativeBinding = loadBinding()): Backend {
  return {
    name: 'native',
    capabilities: NATIVE_CAPABILITIES,
    mount(target, options) {
      try {
        return binding.mountFuse(target, options);
      } catch (error) {
        throw mountError(target, error);
      }
    },
    unmount: (target, options) => binding.unmountFuse(target, options),
    createEngine: (options, onEvent) => binding.createEngine(options, onEvent),
    tryLock: (fd) => binding.tryLock(fd),
    peerCredentials: (fd) => binding.peerCredentials(fd),
    sendDescriptor: (socketFd, fd) => binding.sendDescriptor(socketFd, fd),
    receiveDescriptor: (socketFd) => binding.receiveDescriptor(socketFd),
    syncFilesystem: (fd) => binding.syncFilesystem(fd),
    scanLower: (options, onProgress) => binding.scanLower(options, onProgress),
    checkLower: (options) => binding.checkLower(options),
    checkManifest: (path) => binding.checkManifest(path),
  };
}

function mountError(target: string, error: unknown): unknown {
  const code = systemCode(error);
  if (code === 'EPERM' || code === 'EACCES') {
    return new SiteswapError(
      'NO_RIGHTS',
      `no rights to mount over ${target}: ${describe(error)}`,
      'Run as root, or as the owner of the directory with fusermount3 (Debian: fuse3) installed.',
      { cause: error },
    );
  }
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return new SiteswapError(
      'HOST_REQUIREMENT',
      `FUSE can't be used here: ${describe(error)}`,
      'See `siteswap doctor`; it needs /dev/fuse, and fusermount3 unless root.',
      { cause: error },
    );
  }
  return error;
}

/** `SITESWAP_DISABLE=epoch,no-open`: for tests of the fallbacks. A name that is misspelt is an error. */
export function disabledFeatures(text = process.env['SITESWAP_DISABLE'] ?? ''): Feature[] {
  const names = text.split(',').filter((name) => name !== '');
  const unknown = names.find((name) => !(FEATURES as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new SiteswapError('USAGE', `SITESWAP_DISABLE names '${unknown}'`, `Features: ${FEATURES.join(', ')}.`);
  }
  return names as Feature[];
}
