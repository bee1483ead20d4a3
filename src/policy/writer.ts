/**
 * The table "Writers, by policy": what happens when a process that is in no transaction wants to change something.
 *
 * Pure. The daemon reads the writer's chain (`process-info.ts`), asks here once, and tells the engine.
 */
import { constants } from 'node:os';
import { isBytecodePath } from './bytecode.js';
import { looksLikeInstaller, type Invocation } from './installers.js';

export interface ChainProcess extends Invocation {
  pid: number;
}

export type WriterDecision =
  | {
      kind: 'begin';
      /** Its end ends the transaction. */
      rootPid: number;
      installer: string | null;
      /** A writer that is no installer may live long (a shell): it is also done when it has been quiet. */
      commitWhen: 'exit' | 'exit-or-quiet';
      /** What is shown in `status` and in the log. */
      command: string[];
    }
  | { kind: 'bytecode' }
  | {
      kind: 'refuse';
      /** Positive. */
      errno: number;
      why: string;
    };

export interface Writer {
  /** 0: a process that can't be seen from here. */
  pid: number;
  /** The writer first, then its ancestors, without the processes of the server itself. */
  chain: readonly ChainProcess[];
  /** Opcode name, lower case. */
  op: string;
  /** Relative to the mount. For a rename, the old or the new name. */
  path: Buffer;
}

export function decideWriter({ pid, chain, op, path }: Writer): WriterDecision {
  if (pid === 0) {
    return {
      kind: 'refuse',
      errno: constants.errno.EROFS,
      why: 'the writer is in another pid namespace and cannot be told from others',
    };
  }
  const writer = chain[0];
  if (!writer || writer.pid !== pid) {
    return { kind: 'refuse', errno: constants.errno.EROFS, why: `process ${pid} is gone or belongs to the server` };
  }
  // The topmost one: `poetry install` runs pip, and the install is done when poetry is.
  const root = chain
    .map((process) => ({ process, installer: looksLikeInstaller(process) }))
    .findLast(({ installer }) => installer !== null);
  if (root) {
    const { process, installer } = root;
    return { kind: 'begin', rootPid: process.pid, installer, commitWhen: 'exit', command: [...process.argv] };
  }
  if (isBytecodePath(op, path)) return { kind: 'bytecode' };
  return { kind: 'begin', rootPid: pid, installer: null, commitWhen: 'exit-or-quiet', command: [...writer.argv] };
}
