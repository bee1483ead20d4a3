/**
 * The only place that renames and fsyncs (test/unit/tidy.test.ts watches that).
 *
 * Invariant: when one of these has returned, what it did survives a power cut; when it was cut short, the old state is
 * still there, beside at most a name that starts with TEMPORARY_PREFIX.
 */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../util/errors.js';
import { TEMPORARY_PREFIX } from './layout.js';

let temporaries = 0;

/** Replaces the file's content in one step. */
export async function writeFileAtomic(path: string, content: string): Promise<void> {
  const temporary = join(dirname(path), `${TEMPORARY_PREFIX}${basename(path)}-${process.pid}-${++temporaries}`);
  try {
    const file = await fs.open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, path);
  } catch (error) {
    await fs.rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Moves a file or directory whose content is durable already. The target, if a file, is replaced. */
export async function moveDurable(from: string, to: string): Promise<void> {
  await fs.rename(from, to);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}

/** As moveDurable, for a file that somebody else wrote and did not sync. */
export async function syncAndMove(from: string, to: string): Promise<void> {
  const file = await fs.open(from, constants.O_RDONLY);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await moveDurable(from, to);
}

export async function makeDirectoryDurable(path: string): Promise<void> {
  try {
    await fs.mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    if (!(await fs.lstat(path)).isDirectory()) throw error;
  }
  await syncDirectory(dirname(path));
}

/** Deletes a file or tree, if it is there. A cut leaves a part of it: whoever deletes must be able to do it again. */
export async function remove(path: string): Promise<void> {
  await fs.rm(path, { recursive: true, force: true });
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
