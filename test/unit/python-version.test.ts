import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { allows, compareVersions, parseSpecifiers, parseVersion } from '../../src/python/version.js';

/** pip's own copy of `packaging` answers the same questions. */
const ORACLE = `
import json, sys
try:
    from pip._vendor import packaging
    from pip._vendor.packaging.specifiers import Specifier, InvalidSpecifier
    from pip._vendor.packaging.version import Version, InvalidVersion
except ImportError:
    print('null'); sys.exit()
old = int(packaging.__version__.split('.')[0]) < 23
def version(text):
    try: return Version(text)
    except InvalidVersion: return None
def allowed(version, specifier):
    try: parts = [Specifier(part) for part in specifier.split(',') if part]
    except InvalidSpecifier: return None
    return all(part.contains(version, prereleases=True) for part in parts)
# Before 23, packaging did not pad a version that is shorter than a prefix.
def unpadded(text, specifier):
    prefixes = [part for part in specifier.split(',') if part.startswith('~=') or part.endswith('.*')]
    return old and any(len(Version(part[2:].removesuffix('.*')).release) > len(Version(text).release) for part in prefixes)
def answer(a, b, s):
    allows = allowed(a, s) if version(a) else None
    return [order(a, b), 'unknown' if allows is not None and unpadded(a, s) else allows]
def order(a, b):
    a, b = version(a), version(b)
    return None if a is None or b is None else (a > b) - (a < b)
cases = json.load(sys.stdin)
print(json.dumps([answer(*case) for case in cases]))
`;

const number = fc.oneof(fc.nat(3), fc.constantFrom(10, 20240101));
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | ''> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant('' as const) }, { weight: 1, arbitrary });
const release = fc.array(number, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.'));
const separator = fc.constantFrom('', '.', '-', '_');
const suffix = (words: string[]): fc.Arbitrary<string> =>
  fc.tuple(separator, fc.constantFrom(...words), fc.constantFrom('', '0', '1', '2')).map((parts) => parts.join(''));
const publicVersion = fc
  .tuple(
    maybe(fc.constantFrom('0!', '1!')),
    release,
    maybe(suffix(['a', 'b', 'c', 'rc', 'alpha', 'beta', 'pre', 'preview', 'RC'])),
    maybe(fc.oneof(suffix(['post', 'rev', 'r']), fc.constantFrom('-0', '-1'))),
    maybe(suffix(['dev'])),
  )
  .map((parts) => parts.join(''));
const version = fc
  .tuple(maybe(fc.constant('v')), publicVersion, maybe(fc.constantFrom('+1', '+2', '+10', '+abc', '+abc.1', '+ABC-2')))
  .map((parts) => parts.join(''));
// `packaging` takes the text of `~=` apart, and is right only for text in normal form.
const normalVersion = fc
  .tuple(
    maybe(fc.constant('1!')),
    release,
    maybe(fc.constantFrom('a0', 'b1', 'rc2')),
    maybe(fc.constantFrom('.post0', '.post1')),
    maybe(fc.constantFrom('.dev0', '.dev1')),
  )
  .map((parts) => parts.join(''));
const oneSpecifier = fc.oneof(
  fc
    .tuple(fc.constantFrom('==', '!=', '<=', '>=', '<', '>', '==='), version)
    .map(([operator, text]) => `${operator}${text}`),
  normalVersion.map((text) => `~=${text}`),
  fc.tuple(fc.constantFrom('==', '!='), release).map(([operator, text]) => `${operator}${text}.*`),
);
const specifiers = fc.array(oneSpecifier, { maxLength: 2 }).map((parts) => parts.join(','));

test('versions are ordered and allowed as packaging says', (t) => {
  const seed = Date.now() & 0x7fffffff;
  const near = fc.sample(fc.tuple(version, version, specifiers), { numRuns: 4000, seed });
  const output = execFileSync('python3', ['-c', ORACLE], { input: JSON.stringify(near), maxBuffer: 64 << 20 });
  const answers = JSON.parse(output.toString()) as [number | null, boolean | null | 'unknown'][] | null;
  if (answers === null) return t.skip('skipped: python3 has no pip');
  near.forEach(([a, b, specifier], index) => {
    const [one, other] = [parseVersion(a), parseVersion(b)];
    const order = one && other ? Math.sign(compareVersions(one, other)) : null;
    const parsed = parseSpecifiers(specifier);
    const allowed = one && parsed ? allows(parsed, a) : null;
    const answer = answers[index]!;
    assert.deepEqual(
      [order, answer[1] === 'unknown' ? 'unknown' : allowed],
      answer,
      `${a} | ${b} | ${specifier} (seed ${seed})`,
    );
  });
  assert.ok(answers.some(([, allowed]) => allowed === true) && answers.some(([, allowed]) => allowed === false));
});

test('what is no version, and no specifier', () => {
  for (const text of ['', 'x', '1.0-foo', '1..2', '1.0+', '1.0 2']) assert.equal(parseVersion(text), null, text);
  for (const text of ['1.0', '>dev', '~=1', '>=1.0.*', '==1.dev1.*', '>1.0+local']) {
    assert.equal(parseSpecifiers(text), null, text);
  }
  assert.deepEqual(parseSpecifiers(' '), []);
  assert.equal(parseSpecifiers('(>=1, <2)')?.length, 2);
});

test('releases are padded with zeros', () => {
  const allowed = (specifier: string, text: string) => allows(parseSpecifiers(specifier)!, text);
  assert.ok(allowed('==1.0.*', '1'));
  assert.ok(allowed('>1.7.post1', '1.7.post2'));
  assert.ok(allowed('~=1.4.5a4', '1.4.6'));
  assert.ok(!allowed('~=1.4.5', '1.5'));
});
