/**
 * The two trees that a verifier compares: the staged one at the mountpoint, by file calls, since the verifier sees the
 * transaction's tree there; the one before, by asking the server.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import type { TreeReader } from '../python/distributions.js';
import { systemCode } from '../util/errors.js';
import type { Channel } from './channel.js';

const ABSENT: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG']);

export function bytesOfPath(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

/** No link in the last place is followed, and nothing but a regular file is opened for reading: a fifo would wait. */
export function openFile(root: string, path: string): number | null {
  let fd: number;
  try {
    fd = openSync(bytesOfPath(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (ABSENT.has(systemCode(error))) return null;
    throw error;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return null;
}

export function stagedTree(root: string): TreeReader {
  return {
    list(path) {
      try {
        return readdirSync(bytesOfPath(root, path), { withFileTypes: true, encoding: 'buffer' }).map((entry) => ({
          name: entry.name.toString('latin1'),
          type: entry.isDirectory()
            ? 'directory'
            : entry.isFile()
              ? 'file'
              : entry.isSymbolicLink()
                ? 'symlink'
                : 'other',
        }));
      } catch (error) {
        if (ABSENT.has(systemCode(error))) return null;
        throw error;
      }
    },
    read(path) {
      const fd = openFile(root, path);
      if (fd === null) return Promise.resolve(null);
      try {
        return Promise.resolve(readFileSync(fd));
      } finally {
        closeSync(fd);
      }
    },
  };
}

export function treeBefore(channel: Channel): TreeReader {
  return {
    list(path) {
      const answer = channel.ask({ ask: 'list', path });
      return 'list' in answer ? answer.list : null;
    },
    read(path) {
      const answer = channel.ask({ ask: 'read', path });
      return Promise.resolve('read' in answer && answer.read !== null ? Buffer.from(answer.read) : null);
    },
  };
}
