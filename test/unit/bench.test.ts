/** The bench's pure parts: statistics, table, picture, options. What it measures runs by `npm run bench` only. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadOption, parseOptions } from '../bench/options.js';
import { parseAnswer } from '../bench/program.js';
import { difference, quantile, rotated, spreadOf } from '../bench/statistics.js';
import { svg } from '../bench/svg.js';
import { align, duration, requestsText, rowsOf, table } from '../bench/table.js';

const TITLES = new Map([
  ['plain', 'plain directory'],
  ['other', 'a <peer> & co'],
  ['walk', 'stat walk'],
]);
const POINTS = [
  ...[2, 1, 3].map((seconds) => ({ work: 'walk', subject: 'plain', seconds })),
  ...[4, 5, 6].map((seconds) => ({ work: 'walk', subject: 'other', seconds })),
  { work: 'alone', subject: 'other', seconds: 0.5 },
];

test('spread: median, extremes of a few samples, quartiles of many', () => {
  assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, low: 1, high: 3, count: 3 });
  assert.deepEqual(spreadOf([5, 4, 3, 2, 1]), { median: 3, low: 2, high: 4, count: 5 });
  assert.equal(quantile([1, 2], 0.5), 1.5);
  assert.throws(() => spreadOf([]), RangeError);
});

test('difference of counters: what changed, also what is new', () => {
  assert.deepEqual(difference({ READ: 3, LOOKUP: 1 }, { READ: 5, LOOKUP: 1, OPENDIR: 2 }), { READ: 2, OPENDIR: 2 });
});

test('rotation: each subject is first as often as any other', () => {
  assert.deepEqual(
    [0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join('')),
    ['abc', 'bca', 'cab', 'abc'],
  );
  assert.deepEqual(rotated([], 3), []);
});

test('rows: ratios to the first subject, none where it has no sample', () => {
  const [walk, alone] = rowsOf(POINTS, ['plain', 'other']);
  assert.equal(walk?.cells.get('other')?.ratio, 2.5);
  assert.equal(walk?.cells.get('plain')?.ratio, 1);
  assert.equal(alone?.cells.get('other')?.ratio, null);
  assert.equal(alone?.cells.has('plain'), false);
});

test('table: times in the first column, ratios with their spread in the others', () => {
  const text = table(rowsOf(POINTS, ['plain', 'other']), ['plain', 'other'], TITLES);
  assert.equal(
    text,
    [
      'work       plain directory         a <peer> & co',
      'stat walk  2.00 s (1.00 s–3.00 s)  2.50 (2.00–3.00)',
      'alone      -                       500 ms (500 ms–500 ms)',
    ].join('\n'),
  );
  assert.equal(
    align([
      ['a', 'bb'],
      ['ccc', 'd'],
    ]),
    'a    bb\nccc  d',
  );
});

test('durations have the unit that they are read in', () => {
  assert.deepEqual([12.34, 1.234, 0.1234, 0.0123, 0.00045].map(duration), [
    '12.3 s',
    '1.23 s',
    '123 ms',
    '12.3 ms',
    '0.450 ms',
  ]);
});

test('requests: most frequent first', () => {
  assert.equal(requestsText({ LOOKUP: 2, READ: 30 }), '30 READ, 2 LOOKUP');
  assert.equal(requestsText({}), 'none');
});

test('picture: a bar for each ratio, markup escaped, the same input gives the same bytes', () => {
  const picture = {
    rows: rowsOf(POINTS, ['plain', 'other']),
    subjects: ['plain', 'other'],
    titles: TITLES,
    caption: 'x < y',
  };
  const drawn = svg(picture);
  assert.equal(drawn, svg(picture));
  assert.match(drawn, /^<svg [^>]*viewBox/);
  assert.match(drawn, /prefers-color-scheme: dark/);
  assert.match(drawn, />2\.50<\/text>/);
  assert.match(drawn, /a &lt;peer&gt; &amp; co/);
  assert.doesNotMatch(drawn, /NaN|undefined/);
});

test('options: defaults, --quick, and what is wrong is named', () => {
  const all = parseOptions([]);
  assert.ok(all !== 'help');
  assert.equal(all.rounds, 7);
  const quick = parseOptions(['--quick', '--work', 'walk', '--work', 'import']);
  assert.ok(quick !== 'help');
  assert.deepEqual([quick.rounds, quick.works], [2, ['walk', 'import']]);
  assert.equal(parseOptions(['--help']), 'help');
  assert.throws(() => parseOptions(['--rounds', '0']), BadOption);
  assert.throws(() => parseOptions(['--nonsense']), BadOption);
});

test('answer of work.py: the last line, checked', () => {
  assert.deepEqual(parseAnswer('noise\n{"seconds": 1.5, "cpu": 1, "count": 3}\n'), { seconds: 1.5, cpu: 1, count: 3 });
  assert.throws(() => parseAnswer('{"count": 3}'));
  assert.throws(() => parseAnswer(''));
});
