/**
 * What others see while a transaction is open, and afterwards. After each single change of the writer, a reader that was
 * there before and one that has just started see the tree of before, to the last byte and ctime. When the writer fails,
 * nothing of it is ever seen; when it succeeds, new readers see all of it and the old one goes on with what it had: all but
 * the root's own attributes.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import type { Feature } from '../../src/native/binding.js';
import { EngineMount } from '../helpers/engine-mount.js';
import { differences, makeWorkplace, python, startPython, type Tree, treeOf, without } from './python.js';

/** A program of steps.py: a line to it, a line back. */
class Steps {
  private readonly child;
  private readonly lines;
  private stderr = '';

  constructor(...args: string[]) {
    this.child = startPython('steps.py', args);
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.child.stderr.setEncoding('utf8').on('data', (chunk: string) => (this.stderr += chunk));
  }

  async next(): Promise<string> {
    this.child.stdin.write('\n');
    const line = await this.lines.next();
    assert.ok(!line.done, `steps.py ended: ${this.stderr}`);
    return line.value;
  }

  async tree(): Promise<Tree> {
    return JSON.parse(await this.next()) as Tree;
  }

  async end(): Promise<number | null> {
    const exited = this.child.exitCode === null ? once(this.child, 'exit') : null;
    this.child.stdin.end();
    await exited;
    return this.child.exitCode;
  }
}

async function freshTree(directory: string): Promise<Tree> {
  const reader = new Steps('read', directory);
  try {
    return await reader.tree();
  } finally {
    await reader.end();
  }
}

function belowRoot(tree: Tree): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([path]) => path !== ''));
}

// Not without pidfd-info: the exit status, which decides here, may be unknown then.
const SETTINGS: (readonly Feature[])[] = [
  [],
  ['epoch'],
  ['no-open', 'readdirplus'],
  ['epoch', 'no-open', 'readdirplus'],
];

for (const disable of SETTINGS) {
  for (const exitCode of [1, 0]) {
    const name = `a writer that exits with ${exitCode}${disable.length > 0 ? `, without ${disable.join(', ')}` : ''}`;
    test(name, async () => {
      const place = makeWorkplace();
      let mount: EngineMount | null = null;
      const children: Steps[] = [];
      try {
        await python('posix_checks.py', ['prepare', place.directory, '1']);
        const lower = await treeOf(place.directory, { whole: true });
        mount = await EngineMount.open({ directory: place.directory, store: place.store, disable });
        const old = new Steps('read', place.directory);
        children.push(old);
        const before = await old.tree();
        // The mount shows the lower; inode numbers are its own.
        assert.deepEqual(differences(without('ino', lower), without('ino', before)), []);

        const writer = new Steps('write', place.directory, String(exitCode));
        children.push(writer);
        for (let line = await writer.next(); line !== 'end'; line = await writer.next()) {
          assert.deepEqual(differences(before, await old.tree()), [], `the old reader, ${line}`);
          assert.deepEqual(differences(before, await freshTree(place.directory)), [], `a new reader, ${line}`);
        }
        assert.equal(await writer.end(), exitCode);
        // Not after `settled`: a reader that comes at once waits for the decision.
        const after = await freshTree(place.directory);
        const outcome = await mount.settled();
        assert.equal(outcome.generation, exitCode === 0 ? 1 : null, JSON.stringify(outcome));
        if (exitCode !== 0) {
          assert.deepEqual(differences(before, after), [], 'after the abort');
        } else {
          assert.ok(after['top-file'] && after['lower-elsewhere/a.txt'] && !after['lower1-times']);
          assert.equal(after['lower1-modes/hard2']!['nlink'], 1);
          const again = await freshTree(place.directory);
          assert.deepEqual(differences(after, again), [], 'within one generation');
        }
        // The root's own attributes are the newest generation's for everybody (ARCHITECTURE, "Views").
        const seen = exitCode === 0 ? belowRoot : (tree: Tree): Tree => tree;
        assert.deepEqual(differences(seen(before), seen(await old.tree())), [], 'the old reader, at the end');
        for (const child of children) await child.end();
        assert.deepEqual(differences(lower, await treeOf(mount.lowerPath, { whole: true })), [], 'the lower');
        assert.deepEqual(await mount.close(), []);
        assert.deepEqual(differences(lower, await treeOf(place.directory, { whole: true })), [], 'after the unmount');
        assert.deepEqual(mount.log, []);
      } finally {
        for (const child of children) await child.end();
        await mount?.close();
        place.remove();
      }
    });
  }
}
