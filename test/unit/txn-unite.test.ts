import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isUnitable, uniteLines } from '../../src/txn/unite.js';

const file = (lines: readonly string[]): Buffer => Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
const linesOf = (content: Buffer): string[] => content.toString('latin1').split('\n').slice(0, -1);

test('two develop installs', () => {
  assert.equal(
    String(uniteLines(Buffer.from('/a\n'), Buffer.from('/a\n/b\n'), Buffer.from('/a\n/c\n'))),
    '/a\n/b\n/c\n',
  );
  assert.equal(String(uniteLines(Buffer.from('/a\n/b\n'), Buffer.from('/b\n'), Buffer.from('/a\n/b\n/c'))), '/b\n/c\n');
  assert.equal(String(uniteLines(Buffer.from(''), Buffer.from('/b'), Buffer.from('/c\r\n/b\r\n'))), '/b\n/c\n');
  assert.ok(isUnitable('a/easy-install.pth') && !isUnitable('pth'));
});

test('each line by itself: kept, added, removed; in order', () => {
  const line: fc.Arbitrary<string> = fc.constantFrom('/a', '/b', '/c', 'import site', '# x', '\xff\x01', '/a ');
  const lines = fc.uniqueArray(line);
  fc.assert(
    fc.property(lines, lines, lines, (base, head, ours) => {
      const got = linesOf(uniteLines(file(base), file(head), file(ours)));
      // Whoever changed something about a line decides; both can only have changed it the same way.
      const wanted = (text: string): boolean => {
        const [b, h, o] = [base, head, ours].map((side) => side.includes(text)) as [boolean, boolean, boolean];
        return h === b ? o : h;
      };
      const inOrder = [...head, ...ours.filter((text) => !head.includes(text))];
      assert.deepEqual(got, inOrder.filter(wanted));
    }),
  );
});

test('what only one side changed is that side', () => {
  const lines = fc.uniqueArray(fc.stringMatching(/^[!-~][ -~]{0,3}$/));
  fc.assert(
    fc.property(lines, lines, (base, other) => {
      assert.deepEqual(uniteLines(file(base), file(other), file(base)), file(other));
      assert.deepEqual(linesOf(uniteLines(file(base), file(base), file(other))).sort(), [...other].sort());
    }),
  );
});
