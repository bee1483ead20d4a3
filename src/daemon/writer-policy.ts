/**
 * Who is an installer, and what a writer's transaction is rooted at, from command lines alone. `decideWriter` is pure;
 * `processChain` reads /proc. Used by the server's Writers.
 *
 * The topmost ancestor that looks like an installer is the root; any other writer is its own root, and commits when it
 * exits or has been quiet. Byte code that a reader caches is not an install: it is refused, and CPython goes on without.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { constants } from 'node:os';
import type { WriterDecision, WriterEvent, WriterPolicy, WriterRoot } from './writers.js';

const MAX_ANCESTORS = 64;

const INSTALLERS =
  /^(pip|pip\d[\d.]*|pipx|uv|uvx|poetry|pdm|hatch|rye|pixi|flit|conda|mamba|micromamba|easy_install(-[\d.]+)?|apt|apt-get|aptitude|dpkg|unattended-upgrade|dnf|yum|rpm|pacman|apk)$/;
const INSTALLER_MODULES =
  /^(pip|pipx|uv|poetry|pdm|hatch|conda|ensurepip|easy_install|setuptools|flit|virtualenv|venv)$/;
const INSTALLER_SCRIPTS = /^setup\.py$/;
const PYTHON = /^(python|pypy)[\d.]*$/;
/** Options of python that take the next word. */
const PYTHON_WITH_VALUE = /^-[WX]$/;

export const writerPolicy: WriterPolicy = { chain: processChain, decide: decideWriter };

export function decideWriter(event: Pick<WriterEvent, 'path'>, chain: readonly WriterRoot[]): WriterDecision {
  const writer = chain[0];
  if (!writer) return { kind: 'refuse', errno: constants.errno.EROFS };
  const installer = chain.findLast(({ command }) => looksLikeInstaller(command));
  if (installer) return { kind: 'transaction', root: installer, when: 'exit' };
  if (isByteCode(event.path.toString('latin1'))) {
    return { kind: 'refuse', errno: constants.errno.EROFS };
  }
  return { kind: 'transaction', root: writer, when: 'exit-or-quiet' };
}

/** `__pycache__` itself, and what CPython writes into it: x.cpython-311.pyc by way of x.cpython-311.pyc.140123456. */
export function isByteCode(path: string): boolean {
  return /(^|\/)__pycache__(\/[^/]+\.pyc(\.\d+)?)?$/.test(path);
}

export function looksLikeInstaller(command: readonly string[]): boolean {
  const [program = '', ...words] = command;
  const name = basename(program);
  if (INSTALLERS.test(name)) return true;
  if (!PYTHON.test(name)) return false;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === '-m') return INSTALLER_MODULES.test((words[i + 1] ?? '').split('.')[0]!);
    if (word === '-c') return /\bsetup\.py\b|\bsetuptools\b/.test(words[i + 1] ?? '');
    if (PYTHON_WITH_VALUE.test(word)) i++;
    else if (!word.startsWith('-')) return INSTALLERS.test(basename(word)) || INSTALLER_SCRIPTS.test(basename(word));
  }
  return false;
}

/** The process and its ancestors without init; empty when it can't be seen. */
export function processChain(pid: number): WriterRoot[] {
  const chain: WriterRoot[] = [];
  for (let next = pid; next > 1 && chain.length < MAX_ANCESTORS;) {
    const process = readProcess(next);
    if (!process) break;
    chain.push({ pid: next, command: process.command });
    next = process.parent;
  }
  return chain;
}

function readProcess(pid: number): { parent: number; command: string[] } | null {
  try {
    const parent = parentOfStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    return { parent, command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1) };
  } catch {
    return null;
  }
}

/** `pid (comm) state ppid …`: comm may hold spaces and parentheses. */
export function parentOfStat(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}
