/**
 * A large shared library in two versions, as a package with compiled code has one: each is some functions and a table of
 * which every page names its version and its place.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE_BYTES = 4096;

/** `wrong_pages` asks the kernel for the pages anew before it looks at them. */
const SOURCE = String.raw`
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
__asm__(".pushsection .rodata\n.balign 4096\n.globl table\n.hidden table\ntable:\n.incbin \"" TABLE "\"\n.popsection\n");
extern "C" {
extern const unsigned char table[];
int version() { return VERSION; }
long wrong_pages() {
  madvise(const_cast<unsigned char*>(table), PAGES * 4096L, MADV_DONTNEED);
  long wrong = 0;
  for (long page = 0; page < PAGES; page++) {
    char expected[64];
    int length = std::snprintf(expected, sizeof expected, "%d#%ld#", VERSION, page);
    if (std::memcmp(table + page * 4096, expected, length) != 0) wrong++;
  }
  return wrong;
}
}
`;

export interface BuiltLibrary {
  path: string;
  version: number;
  sha256: string;
}

/** `pages`: of its table. */
export function buildSharedLibrary(dir: string, version: number, pages: number): BuiltLibrary {
  const table = join(dir, `table-${version}.bin`);
  const source = join(dir, `library-${version}.cc`);
  const path = join(dir, `library-${version}.so`);
  const bytes = Buffer.alloc(pages * PAGE_BYTES, '.');
  for (let page = 0; page < pages; page++) bytes.write(`${version}#${page}#`, page * PAGE_BYTES, 'latin1');
  writeFileSync(table, bytes);
  writeFileSync(source, SOURCE);
  const defined = [`-DTABLE="${table}"`, `-DVERSION=${version}`, `-DPAGES=${pages}L`];
  execFileSync('g++', ['-O1', '-shared', '-fPIC', ...defined, '-o', path, source], { stdio: 'pipe' });
  rmSync(table);
  rmSync(source);
  return { path, version, sha256: createHash('sha256').update(readFileSync(path)).digest('hex') };
}
