/**
 * Versions and version specifiers of Python distributions, as the `packaging` library reads them. Pure.
 * https://packaging.python.org/specifications/version-specifiers/ (PEP 440)
 *
 * Written here, and held against `packaging` itself by a property test: the libraries for it on npm do not pad releases
 * (to them 1 does not match `==1.0.*`) and compare post-releases of one release wrongly.
 */

export interface Version {
  epoch: number;
  release: readonly number[];
  pre: readonly [letter: 'a' | 'b' | 'rc', number: number] | null;
  post: number | null;
  dev: number | null;
  local: readonly (string | number)[] | null;
}

export interface Specifier {
  operator: '~=' | '==' | '!=' | '<=' | '>=' | '<' | '>' | '===';
  /** As written, without `.*`. */
  text: string;
  /** Null only for `===`. */
  version: Version | null;
  /** `== 1.2.*`. */
  prefix: boolean;
}

const VERSION =
  /^v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\d+)?)?(?:-(\d+)|[-_.]?(post|rev|r)[-_.]?(\d+)?)?(?:[-_.]?(dev)[-_.]?(\d+)?)?(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$/;
const PRE_LETTERS: Record<string, 'a' | 'b' | 'rc'> = {
  a: 'a',
  alpha: 'a',
  b: 'b',
  beta: 'b',
  c: 'rc',
  rc: 'rc',
  pre: 'rc',
  preview: 'rc',
};
const OPERATOR = /^(~=|===|==|!=|<=|>=|<|>)\s*(\S+)$/;

/** Null when it is none. */
export function parseVersion(text: string): Version | null {
  const match = VERSION.exec(text.trim().toLowerCase());
  if (!match) return null;
  const [, epoch, release = '', preLetter, preNumber, implicitPost, postWord, postNumber, devWord, dev, local] = match;
  const isPost = implicitPost !== undefined || postWord !== undefined;
  return {
    epoch: Number(epoch ?? 0),
    release: release.split('.').map(Number),
    pre: preLetter === undefined ? null : [PRE_LETTERS[preLetter] ?? 'rc', Number(preNumber ?? 0)],
    post: isPost ? Number(implicitPost ?? postNumber ?? 0) : null,
    dev: devWord === undefined ? null : Number(dev ?? 0),
    local: local?.split(/[-_.]/).map((part) => (/^\d+$/.test(part) ? Number(part) : part)) ?? null,
  };
}

/** Below zero when `a` comes before `b`. */
export function compareVersions(a: Version, b: Version): number {
  return (
    a.epoch - b.epoch ||
    compareReleases(a.release, b.release) ||
    compareArrays(preKey(a), preKey(b)) ||
    (a.post ?? -1) - (b.post ?? -1) ||
    compareNumbers(a.dev ?? Infinity, b.dev ?? Infinity) ||
    compareLocals(a.local, b.local)
  );
}

/** `>=1.2,<2`; parentheses around it as old metadata has them. Null when malformed; `[]` allows every version. */
export function parseSpecifiers(text: string): Specifier[] | null {
  const inner = /^\s*\((.*)\)\s*$/.exec(text)?.[1] ?? text;
  const specifiers: Specifier[] = [];
  for (const part of inner.split(',').map((each) => each.trim())) {
    if (part === '') continue;
    const specifier = parseSpecifier(part);
    if (!specifier) return null;
    specifiers.push(specifier);
  }
  return specifiers;
}

export function parseSpecifier(part: string): Specifier | null {
  const match = OPERATOR.exec(part);
  if (!match) return null;
  const operator = match[1] as Specifier['operator'];
  let text = match[2] ?? '';
  const equality = operator === '==' || operator === '!=';
  const prefix = equality && text.endsWith('.*');
  if (prefix) text = text.slice(0, -2);
  const version = parseVersion(text);
  if (operator === '===') return { operator, text, version: null, prefix };
  if (!version || (prefix && (version.dev !== null || version.local))) return null;
  if (version.local && !equality) return null;
  if (operator === '~=' && version.release.length < 2) return null;
  return { operator, text, version, prefix };
}

/** Pre-releases count as what they are: the question is whether an installed version is allowed, not which to choose. */
export function allows(specifiers: readonly Specifier[], version: string): boolean {
  return specifiers.every((specifier) => allowsOne(specifier, version));
}

function allowsOne({ operator, text, version: wanted, prefix }: Specifier, written: string): boolean {
  if (operator === '===' || !wanted) return written.trim().toLowerCase() === text.toLowerCase();
  const version = parseVersion(written);
  if (!version) return false;
  const open = { ...version, local: null };
  switch (operator) {
    case '==':
      return equals(version, wanted, prefix);
    case '!=':
      return !equals(version, wanted, prefix);
    case '<=':
      return compareVersions(open, wanted) <= 0;
    case '>=':
      return compareVersions(open, wanted) >= 0;
    case '<':
      // `<1.0` leaves out 1.0's own pre-releases.
      if (isPre(version) && !isPre(wanted) && sameRelease(version, wanted)) return false;
      return compareVersions(version, wanted) < 0;
    case '>':
      // `>1.0` leaves out 1.0.post1 and 1.0+local.
      if (version.post !== null && wanted.post === null && sameRelease(version, wanted)) return false;
      if (version.local && sameRelease(version, wanted)) return false;
      return compareVersions(version, wanted) > 0;
    case '~=': {
      const series = { ...NO_SUFFIX, epoch: wanted.epoch, release: wanted.release.slice(0, -1) };
      return compareVersions(open, wanted) >= 0 && startsWith(version, series);
    }
  }
}

const NO_SUFFIX = { pre: null, post: null, dev: null, local: null } as const;

function equals(version: Version, wanted: Version, prefix: boolean): boolean {
  if (prefix) return startsWith(version, wanted);
  return compareVersions(wanted.local ? version : { ...version, local: null }, wanted) === 0;
}

/** The release padded with zeros as far as the prefix goes; a prefix may go on into the suffixes (`==1.0a1.*`). */
function startsWith(version: Version, prefix: Version): boolean {
  if (version.epoch !== prefix.epoch) return false;
  const wholeRelease = prefix.pre !== null || prefix.post !== null;
  if (wholeRelease && compareReleases(version.release, prefix.release) !== 0) return false;
  if (!prefix.release.every((part, index) => part === (version.release[index] ?? 0))) return false;
  if (prefix.pre && (version.pre?.[0] !== prefix.pre[0] || version.pre[1] !== prefix.pre[1])) return false;
  if (prefix.post === null) return true;
  return version.post === prefix.post && (prefix.pre !== null || version.pre === null);
}

function isPre(version: Version): boolean {
  return version.pre !== null || version.dev !== null;
}

function sameRelease(a: Version, b: Version): boolean {
  return a.epoch === b.epoch && compareReleases(a.release, b.release) === 0;
}

function compareReleases(a: readonly number[], b: readonly number[]): number {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** A development release of a release itself comes before its pre-releases, and these before the release. */
function preKey({ pre, post, dev }: Version): [number, number] {
  if (pre) return [{ a: 0, b: 1, rc: 2 }[pre[0]], pre[1]];
  return [post === null && dev !== null ? -1 : 3, 0];
}

function compareArrays(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}

/** Also of infinities, whose difference is no number. */
function compareNumbers(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** None comes first; numbers come after words. */
function compareLocals(a: Version['local'], b: Version['local']): number {
  if (!a || !b) return Number(Boolean(a)) - Number(Boolean(b));
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [one, other] = [a[i] ?? 0, b[i] ?? 0];
    if (one === other) continue;
    if (typeof one !== typeof other) return typeof one === 'number' ? 1 : -1;
    return one < other ? -1 : 1;
  }
  return a.length - b.length;
}
